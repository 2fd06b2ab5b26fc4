#include "limiter/histogram.h"

#include <assert.h>

#define STEPS       4  /* buckets an octave */
#define FIRST_SHIFT 10 /* the first octave begins at 2^10 ns, about a microsecond */

/* The lowest duration that bucket INDEX counts, but for the first, which begins at 0. */
static uint64_t lower_edge_ns(size_t index)
{
    return (uint64_t)(STEPS + index % STEPS) << (FIRST_SHIFT - 2 + index / STEPS);
}

static size_t bucket_of(uint64_t duration_ns)
{
    if (duration_ns < lower_edge_ns(1)) {
        return 0;
    }
    unsigned octave = 63U - (unsigned)__builtin_clzll(duration_ns);
    size_t step = (duration_ns >> (octave - 2)) % STEPS;
    size_t bucket = (octave - FIRST_SHIFT) * STEPS + step;
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

void histogram_record(struct histogram *histogram, uint64_t duration_ns)
{
    assert(histogram);
    histogram->count++;
    histogram->sum_ns += duration_ns;
    if (histogram->max_ns < duration_ns) {
        histogram->max_ns = duration_ns;
    }
    histogram->buckets[bucket_of(duration_ns)]++;
}

void histogram_record_many(struct histogram *histogram, uint64_t duration_ns, uint64_t count)
{
    assert(histogram);
    if (count == 0) {
        return;
    }
    histogram_record(histogram, duration_ns);
    histogram->count += count - 1;
    histogram->sum_ns += duration_ns * (count - 1);
    histogram->buckets[bucket_of(duration_ns)] += count - 1;
}

uint64_t histogram_quantile_ns(const struct histogram *histogram, double quantile)
{
    assert(histogram);
    assert(quantile >= 0 && quantile <= 1);
    if (histogram->count == 0) {
        return 0;
    }
    double rank = quantile * (double)histogram->count;
    uint64_t below = 0;
    size_t bucket = 0;
    for (; bucket < HISTOGRAM_BUCKETS - 1; bucket++) {
        below += histogram->buckets[bucket];
        if (below > 0 && (double)below >= rank) {
            break;
        }
    }
    if (bucket == HISTOGRAM_BUCKETS - 1) {
        return histogram->max_ns; /* it has no middle */
    }
    uint64_t lower_ns = bucket == 0 ? 0 : lower_edge_ns(bucket);
    uint64_t middle_ns = lower_ns + (lower_edge_ns(bucket + 1) - lower_ns) / 2;
    return middle_ns < histogram->max_ns ? middle_ns : histogram->max_ns;
}

uint64_t histogram_bucket_edge_ns(size_t bucket)
{
    assert(bucket < HISTOGRAM_BUCKETS);
    return bucket == HISTOGRAM_BUCKETS - 1 ? UINT64_MAX : lower_edge_ns(bucket + 1);
}
