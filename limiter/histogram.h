/*
 * A histogram of durations in constant memory: four buckets an octave, from one microsecond to
 * over an hour, so that a quantile is at most an eighth off. Recording is O(1) and never allocates.
 * All zero is an empty histogram.
 */
#ifndef WEIR_LIMITER_HISTOGRAM_H
#define WEIR_LIMITER_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BUCKETS 128

struct histogram {
    uint64_t count;
    uint64_t sum_ns;
    uint64_t max_ns;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* Counts one duration. Durations past the last bucket count in it; max_ns stays exact. */
void histogram_record(struct histogram *histogram, uint64_t duration_ns);

/* The same, COUNT times. */
void histogram_record_many(struct histogram *histogram, uint64_t duration_ns, uint64_t count);

/*
 * The duration below which the share QUANTILE (0 to 1) of all recorded ones lies: the middle of
 * the bucket that holds it, never more than the largest recorded. 0 for an empty histogram.
 */
uint64_t histogram_quantile_ns(const struct histogram *histogram, double quantile);

/* The upper edge of a bucket in ns, by which tests look at the buckets; the last one's is
 * UINT64_MAX. */
uint64_t histogram_bucket_edge_ns(size_t bucket);

#endif
