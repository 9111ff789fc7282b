// What serves the requests of one loaded model.
#pragma once

#include "triton/abi.h"

namespace naiad {

class ModelInstance {
 public:
  virtual ~ModelInstance() = default;  // Ends live requests, joins the engine's thread.
  // Takes `request`: it is answered and released, now or later. Never waits for the model.
  virtual void Execute(TRITONBACKEND_Request* request) = 0;
};

}  // namespace naiad
