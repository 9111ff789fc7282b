# The library xgrammar, from the sources that core/scripts/fetch_xgrammar.sh gets: target `xgrammar`.
#
# It has no bound of its own on the work that a grammar makes, so a hostile one could keep a thread busy for ever. Three of its
# functions, through which all such work was seen to pass, get a call to naiad::CountGuideWork() put in front of their bodies,
# and so do the loops that make an automaton deterministic and small. That one's bound on its states is kept while states are
# made (an expression of 30 characters makes 2^26 of them); beyond it, the library goes on with the automaton as it was.
# And its expressions for ranges of numbers let in numbers beyond the bounds: naiad's take their place (number_range.h).
# The sources are pinned; should a text to change not be there, the build stops.
set(XGRAMMAR_ROOT "${CMAKE_SOURCE_DIR}/../build/xgrammar" CACHE PATH "Folder with xgrammar's sources")
if(NOT EXISTS ${XGRAMMAR_ROOT}/include/xgrammar/xgrammar.h)
  message(FATAL_ERROR "XGRAMMAR_ROOT=${XGRAMMAR_ROOT} has no xgrammar sources; run core/scripts/fetch_xgrammar.sh ${XGRAMMAR_ROOT}")
endif()

# Replaces `old` by `new` in the text that the variable `text` of the caller holds.
macro(naiad_replace name old new)
  string(REPLACE "${old}" "${new}" changed "${text}")
  if(changed STREQUAL text)
    message(FATAL_ERROR "${XGRAMMAR_ROOT}/cpp/${name} has no \"${old}\": not the version of xgrammar that naiad knows")
  endif()
  set(text "${changed}")
endmacro()

# Writes a changed file to the build folder, with a header of ours in front.
function(naiad_write_changed name header text)
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/xgrammar/${name} @ONLY CONTENT "#include \"${header}\"\n${text}")
endfunction()

# Copies cpp/NAME with a work count as the first statement of each given function head.
function(naiad_count_work name)
  file(READ ${XGRAMMAR_ROOT}/cpp/${name} text)
  foreach(head ${ARGN})
    naiad_replace(${name} "${head} {\n" "${head} {\n  naiad::CountGuideWork();\n")
  endforeach()
  naiad_write_changed(${name} guided/work_limit.h "${text}")
endfunction()
naiad_count_work(earley_parser.cc "void EarleyParser::Complete(const ParserState& state, bool debug_print)"
                 "void EarleyParser::Scan(const ParserState& state, const uint8_t ch)"
                 "    const ParserState& state, bool debug_print\n)"
                 "bool RepeatDetector::IsVisited(const ParserState& state) const")
naiad_count_work(grammar_builder.cc "  while (rule_name_to_id_.count(name_hint + \"_\" + std::to_string(cnt)) != 0)")

file(READ ${XGRAMMAR_ROOT}/cpp/fsm.cc text)
naiad_replace(fsm.cc "  while (now_process < static_cast<int>(closures.size())) {\n    rules.clear();"
              "  while (now_process < static_cast<int>(closures.size())) {
    if (static_cast<int>(closures.size()) > max_num_states) return ResultErr(\"The number of states exceeds the limit.\");
    rules.clear();")
naiad_replace(fsm.cc "        if (closures[j] == next_closure) {\n"
              "        naiad::CountGuideWork();\n        if (closures[j] == next_closure) {\n")
naiad_replace(fsm.cc "        for (const auto& partition_state : partition) {\n"
              "        for (const auto& partition_state : partition) {\n          naiad::CountGuideWork();\n")
naiad_write_changed(fsm.cc guided/work_limit.h "${text}")

file(READ ${XGRAMMAR_ROOT}/cpp/json_schema_converter.cc text)
naiad_replace(json_schema_converter.cc "range_regex = GenerateRangeRegex(start, end)"
              "range_regex = naiad::IntegerRangeRegex(start, end)")
naiad_replace(json_schema_converter.cc "range_regex = GenerateFloatRangeRegex(start, end, 6)"
              "range_regex = naiad::LibraryNumberRange(start, spec.exclusive_minimum, end, spec.exclusive_maximum)")
naiad_write_changed(json_schema_converter.cc guided/number_range.h "${text}")

set(xgrammar_sources compiled_grammar config fsm_builder grammar grammar_compiler grammar_functor grammar_matcher
                     grammar_parser grammar_printer json_schema_converter_ext regex_converter
                     structural_tag support/logging support/recursion_guard testing tokenizer_info)
list(TRANSFORM xgrammar_sources REPLACE "(.+)" "${XGRAMMAR_ROOT}/cpp/\\1.cc")
# How both parts are built. Not our code: no warnings, no debug information; -O2 whatever the build type, as the cost per
# token is in here.
add_library(xgrammar_flags INTERFACE)
target_include_directories(xgrammar_flags SYSTEM INTERFACE ${XGRAMMAR_ROOT}/include ${XGRAMMAR_ROOT}/3rdparty/dlpack/include
                                                           ${XGRAMMAR_ROOT}/3rdparty/picojson)
target_include_directories(xgrammar_flags INTERFACE ${XGRAMMAR_ROOT}/cpp ${CMAKE_SOURCE_DIR})
target_compile_definitions(xgrammar_flags INTERFACE XGRAMMAR_ENABLE_CPPTRACE=0 XGRAMMAR_ENABLE_INTERNAL_CHECK=0
                                                    XGRAMMAR_LOG_CUSTOMIZE=1)
target_compile_options(xgrammar_flags INTERFACE -w -O2 -g0)
set(xgrammar_headers <algorithm> <functional> <iostream> <map> <memory> <optional> <queue> <set> <sstream> <string>
                     <thread> <unordered_map> <unordered_set> <variant> <vector>
                     ${XGRAMMAR_ROOT}/3rdparty/picojson/picojson.h)

# What refers to naiad.
add_library(xgrammar_changed OBJECT ${CMAKE_CURRENT_BINARY_DIR}/xgrammar/earley_parser.cc
                                    ${CMAKE_CURRENT_BINARY_DIR}/xgrammar/fsm.cc
                                    ${CMAKE_CURRENT_BINARY_DIR}/xgrammar/grammar_builder.cc
                                    ${CMAKE_CURRENT_BINARY_DIR}/xgrammar/json_schema_converter.cc)
target_link_libraries(xgrammar_changed PRIVATE xgrammar_flags)

add_library(xgrammar STATIC ${xgrammar_sources} $<TARGET_OBJECTS:xgrammar_changed>)
target_link_libraries(xgrammar PRIVATE xgrammar_flags)
target_include_directories(xgrammar SYSTEM PUBLIC ${XGRAMMAR_ROOT}/include ${XGRAMMAR_ROOT}/3rdparty/dlpack/include)
# The standard that it is written in. In C++20, where a vector is constexpr, clang wants its variants complete too soon.
set_target_properties(xgrammar PROPERTIES CXX_STANDARD 17)
# The part that is never run but that the rest refers to need not be fast; it is the longest to compile. The headers are
# compiled beforehand for another level, which clang does not take.
set_source_files_properties(${XGRAMMAR_ROOT}/cpp/structural_tag.cc PROPERTIES COMPILE_OPTIONS -O0
                            SKIP_PRECOMPILE_HEADERS ON)
target_precompile_headers(xgrammar PRIVATE ${xgrammar_headers})
