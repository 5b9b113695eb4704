/* Variational EM of categorical_fa (vem.py): rows at the maximum of their bound, and sums over rows for the contrasts.

   LANES rows go side by side through Newton's method, so that every loop over categories is one of vector
   instructions; a row that is done makes place for the next one. What a row comes to depends on nothing but the row:
   the loops over lanes are always whole. A group is what shares one zeta: an item, or all of them. */
#include <stdlib.h>

#define LANES (64 / (long)sizeof(REAL))
#define ROWS 256
#define EACH(l) _Pragma("omp simd") for (long l = 0; l < LANES; l++)
#define ONE_BY_ONE(l) for (long l = 0; l < LANES; l++)
#define MOST_FLOAT _Generic((REAL)0, float: 3e38f, double: 1e300)
#define EPSILON _Generic((REAL)0, float: 1.1920928955078125e-7f, double: 2.220446049250313e-16)

typedef struct {
  /* Answers [I, N], -1 where missing, or how often each category was chosen [P, N]; categories of each item [I]. */
  const long *codes;
  const REAL *counts;
  const long *sizes;
  /* [C, P, d], [C, P]; (beta, beta^2 / 2) [C, P, n] and lower triangles of its outer products [C, P, T]. */
  const REAL *beta, *offset, *features, *products;
  /* Of the latent vector: mean [C, d], precision [C, d, d], log determinant of the covariance [C]. */
  const REAL *centre, *precision, *log_determinant;
  REAL *mean, *variance, *value; /* [C, N, d], [C, N, d], [C, N]: where to start, and what was found */
  long N, I, P, d, per_row, steps;
  double decrement;
} NAME(rows_given);

/* Points and what was found there, lane by lane: x and gradient [n], minus the Hessian [T], lower triangle. */
typedef struct {
  REAL *x, *gradient, *curvature, *value;
} NAME(place);

typedef struct {
  long row[LANES];
  NAME(place) at, tried;
  REAL *linear, *constant, *answers, *logs, *first, *variance, *step, *gain, *length, *square;
} NAME(rows_work);

static REAL *NAME(take)(REAL **memory, long size) {
  REAL *taken = *memory;
  *memory += size * LANES;
  return taken;
}

/* Add the products of weights [count, LANES] with numbers [count, size], four at a time, to sums [size, LANES]. */
static void NAME(add_products)(REAL *restrict sums, const REAL *e, const REAL *q, long count, long size) {
  long k = 0;
  for (; k + 4 <= count; k += 4, e += 4 * LANES, q += 4 * size)
    for (long t = 0; t < size; t++)
      EACH(l) sums[t * LANES + l] += e[l] * q[t] + e[LANES + l] * q[size + t] + e[2 * LANES + l] * q[2 * size + t] +
                                     e[3 * LANES + l] * q[3 * size + t];
  for (; k < count; k++, e += LANES, q += size)
    for (long t = 0; t < size; t++) EACH(l) sums[t * LANES + l] += e[l] * q[t];
}

/* The bound of the rows in the lanes at tried.x, its gradient and minus its Hessian. */
static void NAME(evaluate)(const NAME(rows_given) *g, NAME(rows_work) *w, long chain) {
  const long d = g->d, n = 2 * d, T = n * (n + 1) / 2;
  const REAL *beta = g->features + chain * g->P * n, *products = g->products + chain * g->P * T;
  const REAL *offset = g->offset + chain * g->P, *centre = g->centre + chain * d;
  const REAL *precision = g->precision + chain * d * d;
  REAL *x = w->tried.x, *gradient = w->tried.gradient, *second = w->tried.curvature, *value = w->tried.value;
  REAL *v = w->variance;
  memset(gradient, 0, n * LANES * sizeof(REAL));
  memset(second, 0, T * LANES * sizeof(REAL));
  EACH(l) value[l] = w->constant[l];
  for (long s = 0; s < d; s++) {
    EACH(l) v[s * LANES + l] = EXP(x[(d + s) * LANES + l]);
  }
  /* Sums over categories: expected features in gradient, their covariances in second. */
  for (long i = 0, p = 0; i < g->I;) {
    const long from = i, until = g->per_row ? g->I : i + 1, start = p;
    REAL count[LANES] = {0}, most[LANES], total[LANES] = {0}, scale[LANES];
    EACH(l) most[l] = -MOST_FLOAT;
    for (; i < until; i++) {
      const REAL *m = w->answers + i * LANES;
      EACH(l) count[l] += m[l];
      for (const long end = p + g->sizes[i]; p < end; p++) {
        REAL *logs = w->logs + (p - start) * LANES;
        const REAL *b = beta + p * n, a = offset[p];
        EACH(l) logs[l] = a;
        for (long s = 0; s < d; s++) EACH(l) logs[l] += b[s] * x[s * LANES + l] + b[d + s] * v[s * LANES + l];
        EACH(l) most[l] = m[l] > 0 && logs[l] > most[l] ? logs[l] : most[l];
      }
    }
    const long end = p;
    p = start;
    for (long j = from; j < until; j++) {
      const REAL *m = w->answers + j * LANES;
      for (const long last = p + g->sizes[j]; p < last; p++) {
        REAL *e = w->logs + (p - start) * LANES;
        EACH(l) e[l] = m[l] > 0 ? e[l] - most[l] : 0;
        EACH(l) e[l] = EXP(e[l]);
        EACH(l) total[l] += e[l] *= m[l];
      }
    }
    EACH(l) total[l] = count[l] > 0 ? total[l] : 1;
    EACH(l) scale[l] = count[l] / total[l];
    REAL logs[LANES];
    EACH(l) logs[l] = total[l] / (count[l] > 0 ? count[l] : 1);
    EACH(l) logs[l] = LOG(logs[l]);
    EACH(l) value[l] -= count[l] > 0 ? count[l] * (logs[l] + most[l]) : 0;
    memset(w->first, 0, n * LANES * sizeof(REAL));
    for (p = start; p < end; p++) EACH(l) w->logs[(p - start) * LANES + l] *= scale[l];
    NAME(add_products)(w->first, w->logs, beta + start * n, end - start, n);
    NAME(add_products)(second, w->logs, products + start * T, end - start, T);
    p = end;
    EACH(l) scale[l] = 1 / (count[l] > 1 ? count[l] : 1);
    for (long s = 0, t = 0; s < n; s++) {
      const REAL *one = w->first + s * LANES;
      EACH(l) gradient[s * LANES + l] += one[l];
      for (long r = 0; r <= s; r++, t++) {
        const REAL *other = w->first + r * LANES;
        EACH(l) second[t * LANES + l] -= one[l] * other[l] * scale[l];
      }
    }
  }
  /* With theta = log v; the prior's part. */
  for (long s = 0, t = 0; s < n; s++)
    for (long r = 0; r <= s; r++, t++) {
      REAL *c = second + t * LANES;
      if (s >= d) EACH(l) c[l] *= v[(s - d) * LANES + l];
      if (r >= d) EACH(l) c[l] *= v[(r - d) * LANES + l];
    }
  for (long s = 0; s < d; s++) {
    REAL *slope = gradient + (d + s) * LANES, *down = gradient + s * LANES;
    const REAL *own = v + s * LANES, *m = x + s * LANES, *theta = x + (d + s) * LANES, *L = w->linear + s * LANES;
    const REAL diagonal = precision[s * d + s];
    REAL *corner = second + ((d + s) * (d + s + 1) / 2 + d + s) * LANES, pulled[LANES] = {0};
    for (long r = 0; r < d; r++) {
      const REAL pull = precision[s * d + r], middle = centre[r];
      EACH(l) pulled[l] += pull * (x[r * LANES + l] - middle);
      if (r <= s) EACH(l) second[(s * (s + 1) / 2 + r) * LANES + l] += pull;
    }
    EACH(l) {
      const REAL steep = own[l] * (slope[l] + (REAL)0.5 * diagonal);
      value[l] += L[l] * m[l] + (REAL)0.5 * (theta[l] - (m[l] - centre[s]) * pulled[l] - diagonal * own[l]);
      down[l] = L[l] - down[l] - pulled[l];
      slope[l] = (REAL)0.5 - steep;
      corner[l] += steep;
    }
  }
}

/* Solve A x = b, A packed with LANES between its elements; 0 where it has no Cholesky factor with this on its diagonal. */
static int NAME(solve)(const REAL *A, const REAL *b, REAL *x, REAL *L, long n, REAL added) {
  for (long i = 0, t = 0; i < n; i++)
    for (long j = 0; j <= i; j++, t++) {
      REAL sum = A[t * LANES] + (i == j ? added : 0);
      for (long k = 0; k < j; k++) sum -= L[i * n + k] * L[j * n + k];
      if (i == j && !(sum > 0)) return 0;
      L[i * n + j] = i == j ? (REAL)sqrt(sum) : sum / L[j * n + j];
    }
  for (long i = 0; i < n; i++) {
    REAL sum = b[i * LANES];
    for (long k = 0; k < i; k++) sum -= L[i * n + k] * x[k * LANES];
    x[i * LANES] = sum / L[i * n + i];
  }
  for (long i = n - 1; i >= 0; i--) {
    REAL sum = x[i * LANES];
    for (long k = i + 1; k < n; k++) sum -= L[k * n + i] * x[k * LANES];
    x[i * LANES] = sum / L[i * n + i];
  }
  return 1;
}

/* A Newton step of one lane and the gain it promises; a matrix that has no factor is helped as in math/newton.py. */
static void NAME(direction)(NAME(rows_work) *w, long n, long l) {
  const REAL *A = w->at.curvature + l, *b = w->at.gradient + l;
  REAL *x = w->step + l, size = 0, most = 0;
  int solved = NAME(solve)(A, b, x, w->square, n, 0);
  for (long i = 0; i < n && !solved; i++) {
    const REAL each = A[(i * (i + 1) / 2 + i) * LANES];
    size += (each < 0 ? -each : each) / n;
    most = MAX(most, each < 0 ? -each : each);
  }
  for (double raised = 1e-10; !solved && raised <= 1; raised *= 100)
    solved = NAME(solve)(A, b, x, w->square, n, (REAL)raised * size);
  if (!solved)
    for (long i = 0; i < n; i++) x[i * LANES] = b[i * LANES] / MAX(most, (REAL)1e-30);
  REAL gain = 0;
  for (long i = 0; i < n; i++) gain += x[i * LANES] * b[i * LANES];
  w->gain[l] = gain;
}

/* Put a row into a lane, or nothing. */
static void NAME(fill)(const NAME(rows_given) *g, NAME(rows_work) *w, long chain, long row, long l) {
  const long d = g->d, N = g->N;
  const REAL *beta = g->beta + chain * g->P * d, *offset = g->offset + chain * g->P;
  w->row[l] = row;
  for (long s = 0; s < d; s++) w->linear[s * LANES + l] = 0;
  for (long s = 0; s < 2 * d; s++) w->at.x[s * LANES + l] = w->step[s * LANES + l] = 0;
  REAL constant = (REAL)0.5 * (d - g->log_determinant[chain]);
  for (long i = 0, first = 0; i < g->I; first += g->sizes[i], i++) {
    REAL answers = 0;
    const long code = row >= 0 && g->codes ? g->codes[i * N + row] : -1;
    const int counted = row >= 0 && !g->codes;
    for (long k = counted ? 0 : MAX(code, 0); k < (counted ? g->sizes[i] : code + 1); k++) {
      const REAL chosen = counted ? g->counts[(first + k) * N + row] : 1;
      answers += chosen;
      constant += chosen * offset[first + k];
      for (long s = 0; s < d; s++) w->linear[s * LANES + l] += chosen * beta[(first + k) * d + s];
    }
    w->answers[i * LANES + l] = answers;
  }
  w->constant[l] = constant;
  if (row < 0) return;
  for (long s = 0; s < d; s++) {
    w->at.x[s * LANES + l] = g->mean[(chain * N + row) * d + s];
    w->at.x[(d + s) * LANES + l] = LOG(g->variance[(chain * N + row) * d + s]);
  }
}

static void NAME(rows_block)(zoo_work *work, long block, long thread) {
  const NAME(rows_given) *g = work->given;
  const long d = g->d, n = 2 * d, T = n * (n + 1) / 2, blocks = (g->N + ROWS - 1) / ROWS, chain = block / blocks;
  const long end = MIN(g->N, (block % blocks + 1) * ROWS);
  long next = block % blocks * ROWS, active = 0, taken[LANES];
  NAME(rows_work) w;
  const long size = 8 * n + 2 * T + d + 5 + g->I + g->P;
  REAL *memory = aligned_alloc(64, (size * LANES + n * n + 16) * sizeof(REAL) / 64 * 64), *whole = memory;
  (void)thread;
  for (NAME(place) *each = &w.at; each <= &w.tried; each = each == &w.at ? &w.tried : &w.tried + 1) {
    each->x = NAME(take)(&memory, n), each->gradient = NAME(take)(&memory, n);
    each->curvature = NAME(take)(&memory, T), each->value = NAME(take)(&memory, 1);
  }
  w.linear = NAME(take)(&memory, d), w.constant = NAME(take)(&memory, 1), w.answers = NAME(take)(&memory, g->I);
  w.logs = NAME(take)(&memory, g->P), w.first = NAME(take)(&memory, n), w.variance = NAME(take)(&memory, n);
  w.step = NAME(take)(&memory, n), w.gain = NAME(take)(&memory, 1), w.length = NAME(take)(&memory, 1);
  w.square = memory;
  ONE_BY_ONE(l) {
    NAME(fill)(g, &w, chain, next < end ? next : -1, l);
    active += next++ < end;
    taken[l] = -1, w.length[l] = 0; /* the starting point itself */
  }
  while (active) {
    for (long s = 0; s < n; s++)
      EACH(l) w.tried.x[s * LANES + l] = w.at.x[s * LANES + l] + w.length[l] * w.step[s * LANES + l];
    NAME(evaluate)(g, &w, chain);
    ONE_BY_ONE(l) {
      if (w.row[l] < 0) continue;
      const REAL found = w.tried.value[l];
      int done = 0, better = 1;
      if (taken[l] >= 0) {
        /* Rounding of the value must not stop the last steps, which gain less than it can show. */
        better = found >= w.at.value[l] - 10 * EPSILON * (1 + (REAL)fabs(w.at.value[l]));
        if (better) w.at.value[l] = MAX(found, w.at.value[l]);
        w.length[l] = better ? 1 : (REAL)0.25 * w.length[l];
        done = !(w.gain[l] * w.length[l] > 10 * EPSILON * EPSILON * (1 + (REAL)fabs(w.at.value[l])));
      } else {
        w.at.value[l] = found, w.length[l] = 1;
      }
      if (better) {
        for (long s = 0; s < n; s++) w.at.x[s * LANES + l] = w.tried.x[s * LANES + l];
        for (long s = 0; s < n; s++) w.at.gradient[s * LANES + l] = w.tried.gradient[s * LANES + l];
        for (long t = 0; t < T; t++) w.at.curvature[t * LANES + l] = w.tried.curvature[t * LANES + l];
        if (!done) NAME(direction)(&w, n, l);
      }
      if (!done && w.gain[l] <= g->decrement * (1 + fabs(w.at.value[l]))) {
        /* The last step gains nothing that the value could show, but takes the point to all its digits. */
        for (long s = 0; s < n; s++) w.at.x[s * LANES + l] += w.step[s * LANES + l];
        done = 1;
      }
      if (++taken[l] < g->steps && !done) continue;
      const long to = chain * g->N + w.row[l];
      g->value[to] = w.at.value[l];
      for (long s = 0; s < d; s++) g->mean[to * d + s] = w.at.x[s * LANES + l];
      for (long s = 0; s < d; s++) g->variance[to * d + s] = EXP(w.at.x[(d + s) * LANES + l]);
      NAME(fill)(g, &w, chain, next < end ? next : -1, l);
      active -= next++ >= end;
      taken[l] = -1, w.length[l] = 0;
    }
  }
  free(whole);
}

/* Rows at the maximum of their bound. */
void NAME(maximise_rows)(const long *codes, const REAL *counts, const long *sizes, const REAL *beta, const REAL *offset,
                         const REAL *features, const REAL *products, const REAL *centre, const REAL *precision,
                         const REAL *log_determinant, REAL *mean, REAL *variance, REAL *value, long C, long N, long I,
                         long P, long d, long per_row, long steps, double decrement, long threads) {
  NAME(rows_given) given = {codes, counts, sizes, beta, offset, features, products, centre, precision, log_determinant,
                            mean, variance, value, N, I, P, d, per_row, steps, decrement};
  zoo_run(NAME(rows_block), &given, C * ((N + ROWS - 1) / ROWS), threads);
}

/* Sums over rows for the contrasts, zeta held. A block of rows is whole: what is beyond the last has no answers. */
typedef struct {
  const long *codes, *sizes;
  const REAL *beta, *offset, *mean, *variance; /* [C, P, d], [C, P], [C, N, d], [C, N, d] */
  REAL *shift, *linear;                        /* log (m / zeta) [C, I, N]; sums of x (lambda, 1) [C, P, d + 1] */
  long N, I, P, d, per_row;
} NAME(zeta_given);

#define EVERY(u) _Pragma("omp simd") for (long u = 0; u < ROWS; u++)

/* Means and variances of a block's rows, row beside row. */
static void NAME(turned)(const REAL *from, REAL *to, long rows, long d) {
  memset(to, 0, d * ROWS * sizeof(REAL));
  for (long u = 0; u < rows; u++)
    for (long s = 0; s < d; s++) to[s * ROWS + u] = from[u * d + s];
}

static void NAME(zeta_block)(zoo_work *work, long block, long thread) {
  const NAME(zeta_given) *g = work->given;
  const long d = g->d, N = g->N, blocks = (N + ROWS - 1) / ROWS, chain = block / blocks;
  const long begin = block % blocks * ROWS, rows = MIN(ROWS, N - begin);
  const REAL *beta = g->beta + chain * g->P * d, *offset = g->offset + chain * g->P;
  REAL *m = malloc(((2 * d + g->P) * ROWS + g->P * (d + 1)) * sizeof(REAL)), *v = m + d * ROWS, *logs = v + d * ROWS;
  REAL *sums = logs + g->P * ROWS;
  (void)thread;
  NAME(turned)(g->mean + (chain * N + begin) * d, m, rows, d);
  NAME(turned)(g->variance + (chain * N + begin) * d, v, rows, d);
  memset(sums, 0, g->P * (d + 1) * sizeof(REAL));
  for (long i = 0, p = 0; i < g->I;) {
    const long from = i, until = g->per_row ? g->I : i + 1, start = p;
    REAL count[ROWS] = {0}, most[ROWS], total[ROWS] = {0}, answered[ROWS] = {0};
    EVERY(u) most[u] = -MOST_FLOAT;
    for (; i < until; i++) {
      const long *codes = g->codes + i * N + begin;
      for (long u = 0; u < rows; u++) answered[u] = codes[u] >= 0;
      EVERY(u) count[u] += answered[u];
      for (long u = 0; u < rows; u++) {
        if (codes[u] < 0) continue;
        REAL *to = sums + (p + codes[u]) * (d + 1);
        for (long s = 0; s < d; s++) to[s] += m[s * ROWS + u];
        to[d] += 1;
      }
      for (const long end = p + g->sizes[i]; p < end; p++) {
        REAL *each = logs + (p - start) * ROWS;
        const REAL a = offset[p];
        EVERY(u) each[u] = a;
        for (long s = 0; s < d; s++) {
          const REAL b = beta[p * d + s], half = (REAL)0.5 * b * b;
          EVERY(u) each[u] += b * m[s * ROWS + u] + half * v[s * ROWS + u];
        }
        EVERY(u) most[u] = answered[u] > 0 && each[u] > most[u] ? each[u] : most[u];
      }
    }
    const long end = p;
    p = start;
    for (long j = from; j < until; j++) {
      const long *codes = g->codes + j * N + begin;
      for (long u = 0; u < rows; u++) answered[u] = codes[u] >= 0;
      for (const long last = p + g->sizes[j]; p < last; p++) {
        REAL *e = logs + (p - start) * ROWS;
        EVERY(u) e[u] = answered[u] > 0 ? e[u] - most[u] : 0;
        EVERY(u) e[u] = EXP(e[u]);
        EVERY(u) total[u] += answered[u] * e[u];
      }
    }
    EVERY(u) total[u] = count[u] > 0 ? total[u] / count[u] : 1;
    EVERY(u) total[u] = LOG(total[u]);
    for (long j = from; j < until; j++) {
      const long *codes = g->codes + j * N + begin;
      REAL *to = g->shift + (chain * g->I + j) * N + begin;
      for (long u = 0; u < rows; u++) to[u] = codes[u] >= 0 ? -(total[u] + most[u]) : -(REAL)INFINITY;
    }
    p = end;
  }
  zoo_turn(work, block);
  REAL *to = g->linear + chain * g->P * (d + 1);
  for (long k = 0; k < g->P * (d + 1); k++) to[k] += sums[k];
  zoo_done(work);
  free(m);
}

void NAME(weigh)(const long *codes, const long *sizes, const REAL *beta, const REAL *offset, const REAL *mean,
                 const REAL *variance, REAL *shift, REAL *linear, long C, long N, long I, long P, long d, long per_row,
                 long threads) {
  NAME(zeta_given) given = {codes, sizes, beta, offset, mean, variance, shift, linear, N, I, P, d, per_row};
  zoo_run(NAME(zeta_block), &given, C * ((N + ROWS - 1) / ROWS), threads);
}

typedef struct {
  const REAL *beta, *offset, *mean, *variance, *shift; /* [C, F, d], [C, F], [C, N, d], [C, N, d], [C, I, N] */
  const long *item;                                    /* of every contrast */
  REAL *sums;                                          /* of e / zeta times 1 and the features, [C, F, 1 + n] */
  long N, I, F, d;
} NAME(contrasts_given);

static void NAME(contrasts_block)(zoo_work *work, long block, long thread) {
  const NAME(contrasts_given) *g = work->given;
  const long d = g->d, N = g->N, n = 1 + (d + 1) * (d + 2) / 2 + d * (d + 1) + d * (d + 1) / 2;
  const long blocks = (N + ROWS - 1) / ROWS, chain = block / blocks;
  const long begin = block % blocks * ROWS, rows = MIN(ROWS, N - begin);
  const REAL *beta = g->beta + chain * g->F * d, *offset = g->offset + chain * g->F;
  REAL *m = malloc(((2 * d + 1 + n) * ROWS + g->F * n) * sizeof(REAL)), *v = m + (d + 1) * ROWS;
  REAL *features = v + d * ROWS, *sums = features + n * ROWS, e[ROWS] = {0}, answered[ROWS] = {0};
  long t = 0;
  (void)thread;
  NAME(turned)(g->mean + (chain * N + begin) * d, m, rows, d);
  NAME(turned)(g->variance + (chain * N + begin) * d, v, rows, d);
  EVERY(u) m[d * ROWS + u] = 1;
  EVERY(u) features[u] = 1;
  t++;
  for (long i = 0; i <= d; i++)
    for (long j = 0; j <= i; j++, t++) EVERY(u) features[t * ROWS + u] = m[i * ROWS + u] * m[j * ROWS + u];
  for (long i = 0; i <= d; i++)
    for (long j = 0; j < d; j++, t++) EVERY(u) features[t * ROWS + u] = m[i * ROWS + u] * v[j * ROWS + u];
  for (long i = 0; i < d; i++)
    for (long j = 0; j <= i; j++, t++) EVERY(u) features[t * ROWS + u] = v[i * ROWS + u] * v[j * ROWS + u];
  for (long f = 0; f < g->F; f++) {
    const REAL *shift = g->shift + (chain * g->I + g->item[f]) * N + begin, a = offset[f];
    for (long u = 0; u < rows; u++) answered[u] = shift[u] > -(REAL)INFINITY;
    for (long u = 0; u < rows; u++) e[u] = answered[u] > 0 ? shift[u] + a : 0;
    for (long s = 0; s < d; s++) {
      const REAL b = beta[f * d + s], half = (REAL)0.5 * b * b;
      EVERY(u) e[u] += b * m[s * ROWS + u] + half * v[s * ROWS + u];
    }
    EVERY(u) e[u] = EXP(answered[u] > 0 ? e[u] : 0) * answered[u];
    for (t = 0; t < n; t++) {
      const REAL *one = features + t * ROWS;
      REAL sum = 0;
#pragma omp simd reduction(+ : sum)
      for (long u = 0; u < ROWS; u++) sum += e[u] * one[u];
      sums[f * n + t] = sum;
    }
  }
  zoo_turn(work, block);
  REAL *to = g->sums + chain * g->F * n;
  for (long k = 0; k < g->F * n; k++) to[k] += sums[k];
  zoo_done(work);
  free(m);
}

void NAME(contrasts)(const REAL *beta, const REAL *offset, const REAL *mean, const REAL *variance, const REAL *shift,
                     const long *item, REAL *sums, long C, long N, long I, long F, long d, long threads) {
  NAME(contrasts_given) given = {beta, offset, mean, variance, shift, item, sums, N, I, F, d};
  zoo_run(NAME(contrasts_block), &given, C * ((N + ROWS - 1) / ROWS), threads);
}
