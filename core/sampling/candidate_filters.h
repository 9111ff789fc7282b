// Which tokens a random draw may give, and how likely each is.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace naiad {

// A token that may still be drawn, with its logit.
struct Candidate {
  int32_t token_id = 0;
  float logit = 0.0F;
};

// More likely first; the lower id on ties, so that the order is total.
[[nodiscard]] inline bool IsMoreLikely(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token_id < b.token_id;
}

// Sets `candidates` to the tokens of `logits` whose value is larger than minus infinity (NaN is not), in order of id.
void CollectCandidates(std::span<const float> logits, std::vector<Candidate>* candidates);

// Sets `candidates` to the `count` most likely tokens of `logits`, most likely first; fewer if fewer are larger than
// minus infinity.
void CollectTopCandidates(std::span<const float> logits, int32_t count, std::vector<Candidate>* candidates);

// Narrows the candidates or reshapes their probabilities, and keeps at least one.
class CandidateFilter {
 public:
  virtual ~CandidateFilter() = default;
  // `candidates` holds at least one; the order is free before and after.
  virtual void Apply(std::vector<Candidate>* candidates) const = 0;
};

// Divides the logits by `temperature`, over 0, after moving the largest to 0 so that no quotient overflows upwards.
class TemperatureFilter final : public CandidateFilter {
 public:
  explicit TemperatureFilter(float temperature) : temperature_(temperature) {}
  void Apply(std::vector<Candidate>* candidates) const override;

 private:
  const float temperature_;
};

// Keeps the most likely ones until their probabilities reach `top_p` in sum (Holtzman et al., "The curious case of
// neural text degeneration", 2019).
class TopPFilter final : public CandidateFilter {
 public:
  explicit TopPFilter(float top_p) : top_p_(top_p) {}
  void Apply(std::vector<Candidate>* candidates) const override;

 private:
  const float top_p_;
};

// Keeps those at least `min_p` times as likely as the most likely one (Nguyen et al., "Min-p sampling", 2024).
class MinPFilter final : public CandidateFilter {
 public:
  explicit MinPFilter(float min_p) : min_p_(min_p) {}
  void Apply(std::vector<Candidate>* candidates) const override;

 private:
  const float min_p_;
};

// The candidate at `point`, in [0, 1), of the cumulative distribution that softmax gives the candidates in their order.
[[nodiscard]] int32_t DrawCandidate(std::span<const Candidate> candidates, double point);

}  // namespace naiad
