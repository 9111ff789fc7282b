// What the library would write to the standard error or throw with its file and line, as the core wants it.
#include <stdexcept>
#include <string>

namespace xgrammar {

[[noreturn]] void LogFatalImpl(const std::string& file, int line, const std::string& message);
void LogMessageImpl(const std::string& file, int line, int level, const std::string& message);

void LogFatalImpl(const std::string& /*file*/, int /*line*/, const std::string& message) {
  throw std::runtime_error(message);
}

// Its warnings quote the guide, which is the client's and belongs in no log.
void LogMessageImpl(const std::string& /*file*/, int /*line*/, int /*level*/, const std::string& /*message*/) {}

}  // namespace xgrammar
