#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "limiter/histogram.h"

#define US   UINT64_C(1000)
#define MS   (1000 * US)
#define HOUR (UINT64_C(3600) * 1000 * MS)

/* The bucket in which DURATION_NS was counted, of a histogram that has counted nothing else. */
static size_t bucket_of(uint64_t duration_ns)
{
    struct histogram histogram = {0};
    histogram_record(&histogram, duration_ns);
    size_t found = HISTOGRAM_BUCKETS;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (histogram.buckets[i] != 0) {
            assert_int_equal(found, HISTOGRAM_BUCKETS);
            assert_int_equal(histogram.buckets[i], 1);
            found = i;
        }
    }
    assert_true(found < HISTOGRAM_BUCKETS);
    return found;
}

static void test_empty(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    assert_int_equal(histogram_quantile_ns(&histogram, 0.5), 0);
    assert_int_equal(histogram_quantile_ns(&histogram, 1), 0);
}

static void test_edges_fit_buckets(void **state)
{
    (void)state;
    for (size_t i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
        uint64_t edge_ns = histogram_bucket_edge_ns(i);
        assert_int_equal(bucket_of(edge_ns - 1), i);
        assert_int_equal(bucket_of(edge_ns), i + 1);
        assert_true(edge_ns < histogram_bucket_edge_ns(i + 1));
    }
    assert_int_equal(bucket_of(0), 0);
    assert_int_equal(bucket_of(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
    assert_true(histogram_bucket_edge_ns(HISTOGRAM_BUCKETS - 1) == UINT64_MAX);
}

static void test_range_is_a_microsecond_to_an_hour(void **state)
{
    (void)state;
    assert_true(histogram_bucket_edge_ns(0) < 2 * US);
    assert_true(histogram_bucket_edge_ns(HISTOGRAM_BUCKETS - 2) > HOUR);
    for (size_t i = 0; i + 6 < HISTOGRAM_BUCKETS; i++) {
        assert_int_equal(histogram_bucket_edge_ns(i + 4), 2 * histogram_bucket_edge_ns(i));
    }
}

static void test_quantile_is_at_most_an_eighth_off(void **state)
{
    (void)state;
    for (uint64_t duration_ns = 2 * US; duration_ns < HOUR; duration_ns += duration_ns / 13) {
        struct histogram histogram = {0};
        histogram_record(&histogram, duration_ns);
        histogram_record(&histogram, 2 * HOUR); /* so that the largest does not bound it */
        uint64_t found_ns = histogram_quantile_ns(&histogram, 0.5);
        uint64_t error_ns =
            found_ns > duration_ns ? found_ns - duration_ns : duration_ns - found_ns;
        assert_true(error_ns <= duration_ns / 8 + 1);
    }
}

static void test_quantiles_of_many(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    for (uint64_t i = 1; i <= 1000; i++) {
        histogram_record(&histogram, i * MS);
    }
    assert_int_equal(histogram.count, 1000);
    assert_int_equal(histogram.sum_ns, 500500 * MS);
    assert_int_equal(histogram.max_ns, 1000 * MS);
    assert_in_range(histogram_quantile_ns(&histogram, 0), 875 * US, 1125 * US);
    assert_in_range(histogram_quantile_ns(&histogram, 0.5), 437 * MS, 563 * MS);
    assert_in_range(histogram_quantile_ns(&histogram, 0.95), 831 * MS, 1000 * MS);
    assert_in_range(histogram_quantile_ns(&histogram, 1), 875 * MS, 1000 * MS);
}

static void test_never_more_than_the_largest(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    histogram_record(&histogram, 0);
    assert_int_equal(histogram_quantile_ns(&histogram, 1), 0);
    histogram_record(&histogram, 1050 * US);
    assert_int_equal(histogram_quantile_ns(&histogram, 1), 1050 * US);
    histogram_record(&histogram, 5 * HOUR);
    assert_int_equal(histogram_quantile_ns(&histogram, 1), 5 * HOUR);
    histogram_record(&histogram, MS);
    assert_int_equal(histogram.max_ns, 5 * HOUR);
}

static void test_many_at_once(void **state)
{
    (void)state;
    struct histogram one = {0};
    struct histogram many = {0};
    for (uint64_t i = 0; i < 20; i++) {
        for (uint64_t k = 0; k < i; k++) {
            histogram_record(&one, i * i * US);
        }
        histogram_record_many(&many, i * i * US, i);
    }
    histogram_record_many(&many, 9 * HOUR, 0);
    assert_memory_equal(&one, &many, sizeof one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_edges_fit_buckets),
        cmocka_unit_test(test_range_is_a_microsecond_to_an_hour),
        cmocka_unit_test(test_quantile_is_at_most_an_eighth_off),
        cmocka_unit_test(test_quantiles_of_many),
        cmocka_unit_test(test_never_more_than_the_largest),
        cmocka_unit_test(test_many_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
