// A thread pool over all cores and the loops that run on it.
//
// Results never depend on the number of threads: a loop is cut into chunks whose bounds depend on the
// problem alone, and chunk results are combined in chunk order. std::thread rather than OpenMP, because
// torch brings an OpenMP runtime of its own and two of them in a process fight.
#pragma once

#include <pthread.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tk {

namespace detail {

class Pool {
public:
    explicit Pool(int threads) {
        for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
    }
    ~Pool() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            stop_ = true;
        }
        wake_.notify_all();
        for (auto& worker : workers_) worker.join();
    }

    // Calls task(i) for each i in [0, count), on all threads including the caller's.
    void run(int64_t count, const std::function<void(int64_t)>& task) {
        std::lock_guard<std::mutex> one_loop_at_a_time(entry_);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            task_ = &task;
            count_ = count;
            next_.store(0);
            busy_ = static_cast<int>(workers_.size());
            failure_ = nullptr;
            ++generation_;
        }
        wake_.notify_all();
        drain();
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return busy_ == 0; });
        task_ = nullptr;
        if (failure_) std::rethrow_exception(failure_);
    }

    int threads() const { return static_cast<int>(workers_.size()) + 1; }

private:
    void drain() {
        inside() = true;
        for (int64_t i; (i = next_.fetch_add(1)) < count_;) {
            try {
                (*task_)(i);
            } catch (...) {
                std::lock_guard<std::mutex> lock(mutex_);
                if (!failure_) failure_ = std::current_exception();
                next_.store(count_);
            }
        }
        inside() = false;
    }
    void work() {
        uint64_t seen = 0;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
            if (stop_) return;
            seen = generation_;
            lock.unlock();
            drain();
            lock.lock();
            if (--busy_ == 0) done_.notify_one();
        }
    }

    std::vector<std::thread> workers_;
    std::mutex entry_, mutex_;
    std::condition_variable wake_, done_;
    const std::function<void(int64_t)>* task_ = nullptr;
    std::atomic<int64_t> next_{0};
    int64_t count_ = 0;
    int busy_ = 0;
    uint64_t generation_ = 0;
    bool stop_ = false;
    std::exception_ptr failure_;

public:
    // True on a thread that is inside a loop body: a nested loop then runs on that thread alone.
    static bool& inside() {
        thread_local bool value = false;
        return value;
    }
};

inline int default_threads() {
    if (const char* text = getenv("TRELLIS_NUM_THREADS")) {
        int n = atoi(text);
        if (n > 0) return std::min(n, 1024);
    }
    cpu_set_t set;
    if (pthread_getaffinity_np(pthread_self(), sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
    return std::max(1u, std::thread::hardware_concurrency());
}

inline std::mutex& pool_mutex() {
    static std::mutex* mutex = new std::mutex;
    return *mutex;
}
inline Pool*& pool_slot() {
    static Pool* slot = nullptr;
    return slot;
}

// A forked child has the pool's memory but none of its threads: it must start over. The old pool is
// leaked on purpose, since its mutexes may be in any state.
inline void forget_pool_after_fork() {
    pool_slot() = nullptr;
    new (&pool_mutex()) std::mutex;
    Pool::inside() = false;
}

inline Pool& pool() {
    std::lock_guard<std::mutex> lock(pool_mutex());
    static bool registered = (pthread_atfork(nullptr, nullptr, forget_pool_after_fork), true);
    (void)registered;
    // Never destroyed: a library's static destructors run after its threads are gone.
    if (!pool_slot()) pool_slot() = new Pool(default_threads());
    return *pool_slot();
}

}  // namespace detail

inline int num_threads() { return detail::pool().threads(); }

// Takes effect for later loops; 0 returns to the default (TRELLIS_NUM_THREADS, else all cores given to
// this process). Not to be called while another thread of the process is inside a native call.
inline void set_num_threads(int n) {
    std::lock_guard<std::mutex> lock(detail::pool_mutex());
    delete detail::pool_slot();
    detail::pool_slot() = new detail::Pool(n > 0 ? std::min(n, 1024) : detail::default_threads());
}

inline int64_t chunk_count(int64_t n, int64_t grain) { return (n + grain - 1) / grain; }

// body(chunk, begin, end) for the consecutive ranges of at most `grain` items that make up [0, n).
template <class Body>
void parallel_chunks(int64_t n, int64_t grain, Body&& body) {
    if (n <= 0) return;
    const int64_t chunks = chunk_count(n, grain);
    auto one = [&](int64_t chunk) { body(chunk, chunk * grain, std::min(n, (chunk + 1) * grain)); };
    if (chunks == 1 || detail::Pool::inside()) {
        for (int64_t chunk = 0; chunk < chunks; ++chunk) one(chunk);
        return;
    }
    detail::pool().run(chunks, one);
}

// body(i) for each i in [0, n), in no particular order.
template <class Body>
void parallel_for(int64_t n, int64_t grain, Body&& body) {
    parallel_chunks(n, grain, [&](int64_t, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) body(i);
    });
}

// Sum of body(i), added up in index order within chunks and in chunk order between them.
template <class T, class Body>
T parallel_sum(int64_t n, int64_t grain, Body&& body) {
    std::vector<T> partial(static_cast<size_t>(chunk_count(std::max<int64_t>(n, 0), grain)), T{});
    parallel_chunks(n, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
        T sum{};
        for (int64_t i = begin; i < end; ++i) sum += body(i);
        partial[static_cast<size_t>(chunk)] = sum;
    });
    T total{};
    for (const T& p : partial) total += p;
    return total;
}

}  // namespace tk
