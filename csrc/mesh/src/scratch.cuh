// Device memory of the caller, carved into arrays; and what the CUDA sources of this extension share besides.
//
// A function that needs scratch takes `void* scratch, int64_t* scratch_bytes`. With a null scratch it sets
// *scratch_bytes and does nothing else; the caller then allocates that much and calls again. Both calls carve the
// same arrays in the same order, so that the size cannot differ from the use.
#pragma once

#include <algorithm>

#include "trellis/cuda.cuh"

namespace tk {

class Scratch {
public:
    Scratch(void* base, int64_t* bytes) : base_(static_cast<char*>(base)), bytes_(bytes) {
        require(bytes != nullptr, "scratch_bytes: expected a place for the size, got null");
    }

    template <class T>
    T* take(int64_t n) {
        T* at = measuring() ? nullptr : reinterpret_cast<T*>(base_ + used_);
        used_ += (n * static_cast<int64_t>(sizeof(T)) + alignment - 1) / alignment * alignment;
        peak_ = std::max(peak_, used_);
        return at;
    }
    // What is taken after mark() may be given back by rewind(), and its place be taken again.
    int64_t mark() const { return used_; }
    void rewind(int64_t mark) { used_ = mark; }

    // True once everything is carved and only the size was asked for: the caller returns then.
    bool only_measured() {
        if (measuring()) {
            *bytes_ = std::max(peak_, alignment);
            return true;
        }
        require(peak_ <= *bytes_, format("scratch_bytes: expected %lld, got %lld", static_cast<long long>(peak_),
                                         static_cast<long long>(*bytes_)));
        return false;
    }

private:
    static constexpr int64_t alignment = 256;
    bool measuring() const { return base_ == nullptr; }
    char* base_;
    int64_t* bytes_;
    int64_t used_ = 0, peak_ = 0;
};

constexpr int block_size = 256;
inline cudaStream_t as_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

// A value of the device, after all that was launched on the stream before.
template <class T>
T read_back(const T* value, cudaStream_t stream) {
    T result;
    TK_CUDA(cudaMemcpyAsync(&result, value, sizeof(T), cudaMemcpyDeviceToHost, stream));
    TK_CUDA(cudaStreamSynchronize(stream));
    return result;
}

}  // namespace tk

// Launches kernel<<<...>>> with one thread an item; nothing for none.
#define TK_LAUNCH(kernel, n, stream, ...)                                                                     \
    do {                                                                                                      \
        const int64_t tk_items = (n);                                                                         \
        if (tk_items > 0) kernel<<<::tk::grid_size(tk_items, ::tk::block_size), ::tk::block_size, 0, stream>>>(__VA_ARGS__); \
    } while (0)
