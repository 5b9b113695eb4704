/* What the kernels share. A kernel's file is compiled twice, with REAL double and float; NAME(f) is f of that type. */
#include <math.h>
#include <pthread.h>
#include <string.h>

#if defined(ZOO_VECTOR_MATH)
/* The C library has these several at a time (libmvec); the attribute lets loops under "omp simd" call them so. */
#define ZOO_SIMD __attribute__((simd("notinbranch")))
ZOO_SIMD double exp(double);
ZOO_SIMD double log(double);
ZOO_SIMD float expf(float);
ZOO_SIMD float logf(float);
#endif

/* The same word for both types. */
#define EXP(x) _Generic((x), float: expf, double: exp)(x)
#define LOG(x) _Generic((x), float: logf, double: log)(x)
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* Work in blocks that threads take one after another. How work is cut must not depend on the number of threads; then
   neither do the results. What blocks add to one place they add in turn, lowest block first: between zoo_turn and
   zoo_done. The lowest unfinished block never waits, so nothing waits for ever. */
#define ZOO_MOST_THREADS 256
typedef struct zoo_work zoo_work;
struct zoo_work {
  void (*run)(zoo_work *work, long block, long thread);
  void *given;
  long blocks, next, turn, workers;
  pthread_mutex_t lock;
  pthread_cond_t moved;
};

static inline void zoo_turn(zoo_work *work, long block) {
  pthread_mutex_lock(&work->lock);
  while (work->turn != block) pthread_cond_wait(&work->moved, &work->lock);
  pthread_mutex_unlock(&work->lock);
}

static inline void zoo_done(zoo_work *work) {
  pthread_mutex_lock(&work->lock);
  work->turn++;
  pthread_cond_broadcast(&work->moved);
  pthread_mutex_unlock(&work->lock);
}

static void *zoo_worker(void *argument) {
  zoo_work *work = argument;
  const long thread = __atomic_fetch_add(&work->workers, 1, __ATOMIC_RELAXED);
  for (;;) {
    const long block = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED);
    if (block >= work->blocks) return 0;
    work->run(work, block, thread);
  }
}

/* Run blocks 0 ... blocks - 1 on so many threads; thread, 0 ... threads - 1, is whose scratch memory to use. */
static inline void zoo_run(void (*run)(zoo_work *, long, long), void *given, long blocks, long threads) {
  zoo_work work = {.run = run, .given = given, .blocks = blocks};
  pthread_t others[ZOO_MOST_THREADS];
  long started = 0;
  pthread_mutex_init(&work.lock, 0);
  pthread_cond_init(&work.moved, 0);
  threads = MIN(MIN(threads, blocks), ZOO_MOST_THREADS);
  while (started < threads - 1 && !pthread_create(&others[started], 0, zoo_worker, &work)) started++;
  zoo_worker(&work);
  while (started > 0) pthread_join(others[--started], 0);
  pthread_cond_destroy(&work.moved);
  pthread_mutex_destroy(&work.lock);
}
