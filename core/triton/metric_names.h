// Every metric of the engine: names, kinds, help texts and buckets (docs/contracts.md, section 6).
#pragma once

#include <array>
#include <cstddef>

#include "triton/abi.h"

namespace naiad {

// Upper bounds in seconds: steps and gaps of a small model take under a millisecond, a queue under load takes minutes.
inline constexpr std::array<double, 19> kSecondsBuckets = {
    0.0005, 0.001, 0.002, 0.004, 0.006, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0};
// Upper bounds of counts of tokens and sequences.
inline constexpr std::array<double, 15> kCountBuckets = {1,   2,   4,    8,    16,   32,   64,   128,
                                                         256, 512, 1024, 2048, 4096, 8192, 16384};

enum class MetricId : size_t {
  kRequestsRunning,
  kRequestsWaiting,
  kCacheUsage,
  kCacheBlocks,
  kPromptTokens,
  kGenerationTokens,
  kPreemptions,
  kPrefixCacheHitTokens,
  kDraftTokens,
  kAcceptedDraftTokens,
  kRequestSuccess,
  kRequestFailure,
  kTimeToFirstToken,
  kInterTokenLatency,
  kQueueTime,
  kPrefillTime,
  kDecodeTime,
  kRequestLatency,
  kStepTokens,
  kStepSequences,
  kStepDuration,
  kEngineSeconds,
  kCount,
};

enum class MetricShape { kCounter, kGauge, kSeconds, kCounts };

struct MetricDefinition {
  const char* name;
  MetricShape shape;
  const char* help;
};

inline constexpr size_t kMetricCount = static_cast<size_t>(MetricId::kCount);

// In the order of MetricId.
inline constexpr std::array<MetricDefinition, kMetricCount> kMetricDefinitions = {{
    {"naiad_num_requests_running", MetricShape::kGauge, "Sequences of requests in flight in the engine"},
    {"naiad_num_requests_waiting", MetricShape::kGauge,
     "Requests accepted but not yet started, and preempted sequences"},
    {"naiad_kv_cache_usage_perc", MetricShape::kGauge, "Part of the KV cache blocks that is in use, 0 to 1"},
    {"naiad_kv_cache_blocks", MetricShape::kGauge, "KV cache blocks by state"},
    {"naiad_prompt_tokens_total", MetricShape::kCounter,
     "Prompt tokens computed or found in the cache, a request's once"},
    {"naiad_generation_tokens_total", MetricShape::kCounter, "New tokens of all sequences"},
    {"naiad_num_preemptions_total", MetricShape::kCounter, "Times a running sequence had to give its blocks back"},
    {"naiad_prefix_cache_hit_tokens_total", MetricShape::kCounter,
     "Prompt tokens whose keys and values were found in the cache"},
    {"naiad_spec_decode_num_draft_tokens_total", MetricShape::kCounter, "Tokens proposed by speculation"},
    {"naiad_spec_decode_num_accepted_tokens_total", MetricShape::kCounter, "Proposed tokens that the model confirmed"},
    {"naiad_request_success_total", MetricShape::kCounter,
     "Sequences that ended by themselves or were stopped; a request has num_return_sequences of them"},
    {"naiad_request_failure_total", MetricShape::kCounter,
     "Requests refused and sequences failed, by the name of the status"},
    {"naiad_time_to_first_token_seconds", MetricShape::kSeconds, "Arrival in the engine to the first new token"},
    {"naiad_inter_token_latency_seconds", MetricShape::kSeconds, "Time between two new tokens of one sequence"},
    {"naiad_request_queue_time_seconds", MetricShape::kSeconds, "Arrival to the first step that works on the sequence"},
    {"naiad_request_prefill_time_seconds", MetricShape::kSeconds, "First step of a sequence to its first new token"},
    {"naiad_request_decode_time_seconds", MetricShape::kSeconds, "First new token of a sequence to its last"},
    {"naiad_e2e_request_latency_seconds", MetricShape::kSeconds, "Arrival in the engine to the end of a sequence"},
    {"naiad_step_tokens", MetricShape::kCounts, "Packed tokens in one run of the model"},
    {"naiad_step_sequences", MetricShape::kCounts, "Sequences in one run of the model"},
    {"naiad_step_duration_seconds", MetricShape::kSeconds, "Time of one step of the engine"},
    {"naiad_engine_seconds_total", MetricShape::kCounter,
     "Time of the engine thread by activity: model, sampling, rest; what is missing to a second a second it was idle"},
}};

}  // namespace naiad
