// Errors inside native code are C++ exceptions; none crosses the C boundary.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include "trellis/abi.h"

namespace tk {

class Error : public std::exception {
public:
    Error(int code, std::string message) : code_(code), message_(std::move(message)) {}
    int code() const noexcept { return code_; }
    const char* what() const noexcept override { return message_.c_str(); }

private:
    int code_;
    std::string message_;
};

inline std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));
inline std::string format(const char* pattern, ...) {
    char buffer[1024];
    va_list args;
    va_start(args, pattern);
    std::vsnprintf(buffer, sizeof buffer, pattern, args);
    va_end(args);
    return buffer;
}

// Throws TK_INVALID_ARGUMENT; `message` names argument, expected and actual. It is composed whether needed or not:
// inside a loop, test first and throw Error.
inline void require(bool condition, const std::string& message) {
    if (!condition) throw Error(TK_INVALID_ARGUMENT, message);
}

inline std::string& last_error() {
    thread_local std::string text;
    return text;
}

// Runs `body` and turns whatever it throws into a code and a text. The body of every exported function.
template <class Body>
int guarded(Body&& body) noexcept {
    try {
        last_error().clear();
        body();
        return TK_OK;
    } catch (const Error& e) {
        last_error() = e.what();
        return e.code();
    } catch (const std::bad_alloc&) {
        last_error() = "out of host memory";
        return TK_OUT_OF_MEMORY;
    } catch (const std::exception& e) {
        last_error() = e.what();
        return TK_INTERNAL;
    } catch (...) {
        last_error() = "unknown error";
        return TK_INTERNAL;
    }
}

}  // namespace tk

// The functions that every extension exports. TK_VERSION and TK_ABI come from the build: the package's
// version, and the SHA-256 of the public header that this library was compiled from.
#define TK_DEFINE_COMMON(ext)                                                                       \
    TK_API const char* tk_##ext##_last_error(void) { return tk::last_error().c_str(); }             \
    TK_API const char* tk_##ext##_version(void) { return TK_VERSION; }                              \
    TK_API const char* tk_##ext##_abi(void) { return TK_ABI; }
