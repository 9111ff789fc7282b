// Serves task "generate": requests of Triton's in, decoupled token streams out.
#pragma once

#include <functional>
#include <memory>

#include "engine/engine.h"
#include "engine/model_runner.h"
#include "guided/guide.h"
#include "guided/guide_queue.h"
#include "triton/delta_group.h"
#include "triton/instance_observer.h"
#include "triton/model_instance.h"

namespace naiad {

// Turns a guide into what the engine follows; kInvalidArgument, naming the parameter, if the guide is wrong. May take
// its time. Any thread.
using CompileGuide = std::function<Status(const GuideSpec& guide, std::shared_ptr<const Grammar>* grammar)>;
// What CompileGuide made of the guide before, or null. Quick. Any thread.
using FindGuide = std::function<std::shared_ptr<const Grammar>(const GuideSpec& guide)>;

struct DecodedGeneration;
struct DeltaGroupMembership;

class DecoderInstance : public ModelInstance {
 public:
  // Without `compile_guide`, requests with a guide are refused.
  DecoderInstance(TRITONBACKEND_ModelInstance* handle, const EngineOptions& options,
                  std::unique_ptr<ModelRunner> runner, std::unique_ptr<ModelMetrics> metrics,
                  CompileGuide compile_guide = nullptr, FindGuide find_guide = nullptr);
  void Execute(TRITONBACKEND_Request* request) override;

 private:
  [[nodiscard]] GuideQueueTargets TargetsOfGuides(CompileGuide compile_guide, FindGuide find_guide);
  Status Submit(DecodedGeneration& decoded);
  void Stop(const DecodedGeneration& decoded);

  [[nodiscard]] DeltaGroupMembership MembershipOf(const DecodedGeneration& decoded);

  TRITONBACKEND_ModelInstance* handle_;
  InstanceObserver observer_;
  DeltaGroups delta_groups_;
  Engine engine_;                            // Stops before what it reports to is gone,
  std::unique_ptr<GuideQueue> guide_queue_;  // and this before the engine that it feeds. Null: guides are refused.
};

}  // namespace naiad
