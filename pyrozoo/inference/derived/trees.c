/* Transitions of the No-U-Turn sampler (trees.py), chain after chain, over a density that is compiled, too. A density
   takes a vector that moves, and after it what stays: other sites. Everything is double. */
#include <stdint.h>
#include <stdlib.h>

#define DEEPEST_OF_ALL 16

typedef int (*NAME(density))(unsigned long, const double *, double *, double *, void *);

typedef struct {
  NAME(density) density;
  void *memory;
  long size, whole, first, deepest;
  double step, diverged;
  const double *scale, *factor; /* [size]; of the first coordinates [first, first] */
  uint64_t random[4];
  double *point, *slope, *work, *direction;
} NAME(chain);

/* Position, momentum, and force: the gradient by the metric. */
typedef struct {
  double *place, *momentum, *force;
} NAME(end);

static uint64_t NAME(bits)(NAME(chain) *c) { /* xoshiro256+ (Blackman and Vigna 2021) */
  uint64_t *s = c->random;
  const uint64_t result = s[0] + s[3], t = s[1] << 17;
  s[2] ^= s[0], s[3] ^= s[1], s[1] ^= s[2], s[0] ^= s[3], s[2] ^= t;
  s[3] = (s[3] << 45) | (s[3] >> 19);
  return result;
}

static double NAME(uniform)(NAME(chain) *c) { return ((NAME(bits)(c) >> 11) + 0.5) * 0x1.0p-53; }

static void NAME(seed)(NAME(chain) *c, uint64_t seed) { /* splitmix64 */
  for (int i = 0; i < 4; i++) {
    uint64_t z = (seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u, z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    c->random[i] = z ^ (z >> 31);
  }
}

static double NAME(value)(NAME(chain) *c, const double *place, double *force) {
  double value;
  const long n = c->size, first = c->first;
  memcpy(c->point, place, n * sizeof(double));
  if (c->density(c->whole, c->point, c->slope, &value, c->memory) || !isfinite(value)) return -INFINITY;
  for (long i = 0; i < n; i++) force[i] = i < first ? 0 : c->slope[i] * c->scale[i];
  for (long j = 0; j < first; j++)
    for (long i = 0; i <= j; i++) force[i] += c->factor[j * first + i] * c->slope[j];
  return value;
}

static void NAME(along)(const NAME(chain) *c, const double *momentum) {
  const long n = c->size, first = c->first;
  for (long i = first; i < n; i++) c->direction[i] = momentum[i] * c->scale[i];
  for (long i = 0; i < first; i++) {
    double sum = 0;
    for (long j = 0; j <= i; j++) sum += c->factor[i * first + j] * momentum[j];
    c->direction[i] = sum;
  }
}

static int NAME(turning)(long n, const double *first, const double *last, const double *sums) {
  double a = 0, b = 0;
  for (long i = 0; i < n; i++) {
    const double along = sums[i] - 0.5 * (first[i] + last[i]);
    a += along * first[i], b += along * last[i];
  }
  return a <= 0 || b <= 0;
}

static double NAME(added)(double a, double b) { /* log(exp(a) + exp(b)) */
  const double top = a > b ? a : b;
  return top == -INFINITY ? top : top + log1p(exp((a > b ? b : a) - top));
}

#define COPY(to, from) memcpy(to, from, n * sizeof(double))
#define COPY_END(to, from) COPY(to.place, from.place), COPY(to.momentum, from.momentum), COPY(to.force, from.force)

static double *NAME(room)(double **next, long n) {
  double *mine = *next;
  *next += n;
  return mine;
}

/* Moves place once; returns the mean acceptance. */
static double NAME(moved)(NAME(chain) *c, double *place, double *value) {
  const long n = c->size;
  double *next = c->work;
  NAME(end) ends[2], now;
  for (int i = 0; i < 3; i++) {
    NAME(end) *e = i < 2 ? ends + i : &now;
    e->place = NAME(room)(&next, n), e->momentum = NAME(room)(&next, n), e->force = NAME(room)(&next, n);
  }
  double *all = NAME(room)(&next, n), *sums = NAME(room)(&next, n), *drawn = NAME(room)(&next, n);
  double *firsts[DEEPEST_OF_ALL], *before[DEEPEST_OF_ALL];
  for (int i = 0; i < DEEPEST_OF_ALL; i++) firsts[i] = NAME(room)(&next, n), before[i] = NAME(room)(&next, n);

  COPY(ends[0].place, place);
  *value = NAME(value)(c, place, ends[0].force);
  double energy = *value;
  for (long i = 0; i < n; i += 2) { /* Box and Muller */
    const double r = sqrt(-2 * log(NAME(uniform)(c))), angle = 2 * 3.14159265358979323846 * NAME(uniform)(c);
    ends[0].momentum[i] = r * cos(angle);
    if (i + 1 < n) ends[0].momentum[i + 1] = r * sin(angle);
  }
  for (long i = 0; i < n; i++) energy -= 0.5 * ends[0].momentum[i] * ends[0].momentum[i];
  COPY(all, ends[0].momentum);
  COPY_END(ends[1], ends[0]);
  double total = 0, accepted = 0;
  long leaves = 0;
  for (long depth = 0; depth < c->deepest; depth++) {
    const int forward = NAME(uniform)(c) < 0.5;
    const double step = forward ? c->step : -c->step;
    COPY_END(now, ends[forward]);
    for (long i = 0; i < n; i++) sums[i] = 0;
    double weights = -INFINITY, kept = 0;
    int sound = 1;
    for (long leaf = 0; sound && leaf < (1L << depth); leaf++) {
      for (long i = 0; i < n; i++) now.momentum[i] += 0.5 * step * now.force[i];
      NAME(along)(c, now.momentum);
      for (long i = 0; i < n; i++) now.place[i] += step * c->direction[i];
      const double here = NAME(value)(c, now.place, now.force);
      double weight = here - energy;
      for (long i = 0; i < n; i++) now.momentum[i] += 0.5 * step * now.force[i];
      for (long i = 0; i < n; i++) weight -= 0.5 * now.momentum[i] * now.momentum[i];
      leaves++;
      if (!(weight > -c->diverged) || !isfinite(weight)) {
        sound = 0;
        break;
      }
      accepted += weight < 0 ? exp(weight) : 1;
      weights = NAME(added)(weights, weight);
      if (log(NAME(uniform)(c)) < weight - weights) COPY(drawn, now.place), kept = here;
      for (long i = 0; i < n; i++) sums[i] += now.momentum[i];
      const long last = __builtin_popcountl(leaf >> 1);
      if (leaf % 2 == 0) {
        COPY(firsts[last], now.momentum), COPY(before[last], sums);
        continue;
      }
      for (long i = last - __builtin_ctzl(~leaf) + 1; sound && i <= last; i++) {
        for (long k = 0; k < n; k++) c->direction[k] = sums[k] - before[i][k] + firsts[i][k];
        sound = !NAME(turning)(n, firsts[i], now.momentum, c->direction);
      }
    }
    if (!sound) break;
    if (log(NAME(uniform)(c)) < weights - total) COPY(place, drawn), *value = kept;
    total = NAME(added)(total, weights);
    for (long i = 0; i < n; i++) all[i] += sums[i];
    COPY_END(ends[forward], now);
    if (NAME(turning)(n, ends[0].momentum, ends[1].momentum, all)) break;
  }
  return accepted / leaves;
}

/* points [chains, whole] are where chains are and what stays; then where they come to. */
void NAME(transitions)(long density, long memory, long chains, long size, long whole, long first, long deepest,
                       double step, double diverged, const double *scale, const double *factor, const int64_t *seeds, double *points,
                       double *values, double *gradients, double *accepted) {
  NAME(chain) c = {(NAME(density))density, (void *)memory, size, whole, first, deepest, step, diverged, scale, factor};
  /* Of one chain: 3 x 3 vectors of ends, 3 of sums and draws, checkpoints, place and direction; point and slope. */
  double *room = malloc(sizeof(double) * ((14 + 2 * DEEPEST_OF_ALL) * size + 2 * whole)), *place = room;
  c.direction = room + size, c.point = room + 2 * size, c.slope = c.point + whole, c.work = c.slope + whole;
  for (long chain = 0; chain < chains; chain++) {
    double *here = points + chain * whole;
    NAME(seed)(&c, (uint64_t)seeds[chain]);
    memcpy(c.point, here, whole * sizeof(double));
    memcpy(place, here, size * sizeof(double));
    accepted[chain] = NAME(moved)(&c, place, values + chain);
    memcpy(here, place, size * sizeof(double));
    memcpy(c.point, here, whole * sizeof(double));
    double value;
    c.density(whole, c.point, c.slope, &value, c.memory);
    memcpy(gradients + chain * size, c.slope, size * sizeof(double));
  }
  free(room);
}
