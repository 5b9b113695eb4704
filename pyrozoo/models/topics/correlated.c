/* Modes of the logits eta of documents, by steps V g with the covariance V that its document was given. The weights of a
   document's words are gathered once and stay in cache; then a pass over them gives the value, the ratios
   n / (theta . beta), and the gradient. */
#define LANES (64 / (long)sizeof(REAL))
#define DOCUMENTS 8
#define ROUNDS 6
typedef REAL NAME(vector) __attribute__((vector_size(64), aligned(sizeof(REAL)), may_alias));
#define VECTOR NAME(vector)

typedef struct {
  const REAL *beta, *size, *own;              /* [V, width]; [width] and [V, width], or none */
  const REAL *offset;                         /* [B, K], or none */
  const REAL *counts;                         /* [cell] */
  const long *starts, *words;                 /* [B + 1], [cell] */
  const REAL *mean, *precision, *covariance;  /* [d], [d, d], [B, d, d] */
  REAL *eta, *evidence, *left, *columns;      /* [B, d], [B], [B], [V, width] */
  REAL *scratch;
  long B, K, width, room, steps, delta;
} NAME(climb_given);

typedef struct {
  REAL *eta, *theta, *gradient, *ratio;
  double value, evidence;
} NAME(place);

static inline REAL NAME(sum)(VECTOR v) {
  REAL s = 0;
  for (long l = 0; l < LANES; l++) s += v[l];
  return s;
}

/* out = A x, A symmetric. */
static void NAME(apply)(const REAL *A, const REAL *x, REAL *restrict out, long d) {
  for (long j = 0; j < d; j++) out[j] = 0;
  for (long i = 0; i < d; i++) {
    const REAL *row = A + i * d, each = x[i];
#pragma omp simd
    for (long j = 0; j < d; j++) out[j] += each * row[j];
  }
}

/* softmax(eta + offset, 0); returns the logarithm of its sum. */
static double NAME(soft)(const REAL *eta, const REAL *offset, REAL *theta, long d) {
  REAL most = offset ? offset[d] : 0, total = 0;
  for (long k = 0; k < d; k++) theta[k] = eta[k] + (offset ? offset[k] : 0);
  theta[d] = most;
  for (long k = 0; k < d; k++) most = MAX(most, theta[k]);
#pragma omp simd
  for (long k = 0; k <= d; k++) theta[k] = EXP(theta[k] - most);
  for (long k = 0; k <= d; k++) total += theta[k];
  for (long k = 0; k <= d; k++) theta[k] /= total;
  return most + (double)LOG(total);
}

/* Bring the weights of a document's words near: beta; or lambda / Lambda without the expected count of the token itself,
   phi = theta lambda / (Lambda p + theta), p such that phi adds up to 1. What p goes to p sum phi, falls to that. */
static void NAME(gather)(const NAME(climb_given) *g, NAME(place) *at, REAL *near, long document) {
  const long width = g->width, from = g->starts[document], to = g->starts[document + 1];
  const VECTOR *t = (const VECTOR *)at->theta, *size = (const VECTOR *)g->size;
  at->evidence = 0;
  for (long e = from; e < to; e++) {
    memcpy(near + (e - from) * width, g->beta + g->words[e] * width, width * sizeof(REAL));
    if (!g->size) continue;
    VECTOR *b = (VECTOR *)(near + (e - from) * width), dot = {0}, of_own = {0};
    const VECTOR *own = (const VECTOR *)(g->own + g->words[e] * width);
    for (long v = 0; v < width / LANES; v++) of_own += t[v] * own[v], dot += t[v] * b[v] / size[v];
    at->evidence += g->counts[e] * (double)LOG(MAX(NAME(sum)(of_own), (REAL)1e-37));
    REAL p = NAME(sum)(dot);
    for (long round = 0; round < ROUNDS; round++) {
      VECTOR all = {0};
      for (long v = 0; v < width / LANES; v++) all += t[v] * b[v] / (size[v] * p + t[v]);
      p *= NAME(sum)(all);
    }
    for (long v = 0; v < width / LANES; v++) b[v] = b[v] * p / (size[v] * p + t[v]);
  }
}

static void NAME(evaluate)(const NAME(climb_given) *g, NAME(place) *at, const REAL *near, REAL *work, long document) {
  const long d = g->K - 1, width = g->width, from = g->starts[document], to = g->starts[document + 1];
  REAL *away = work, *pulled = away + width, *shares = pulled + width, *expected = shares + width;
  const REAL *offset = g->offset ? g->offset + document * g->K : 0;
  double value = 0, tokens = 0, spread = 0, square = 0;
  const double whole = NAME(soft)(at->eta, 0, at->theta, d);
  const double moved = offset ? NAME(soft)(at->eta, offset, expected, d) : whole;
  memset(shares, 0, width * sizeof(REAL));
  VECTOR *sum = (VECTOR *)shares;
  const VECTOR *t = (const VECTOR *)at->theta;
  for (long e = from; e < to; e++) {
    const VECTOR *b = (const VECTOR *)(near + (e - from) * width);
    VECTOR dot = t[0] * b[0];
    for (long v = 1; v < width / LANES; v++) dot += t[v] * b[v];
    const REAL p = MAX(NAME(sum)(dot), (REAL)1e-37), ratio = g->counts[e] / p;
    at->ratio[e - from] = ratio;
    tokens += g->counts[e];
    value += g->counts[e] * (double)LOG(p);
    for (long v = 0; v < width / LANES; v++) sum[v] += ratio * b[v];
  }
  for (long k = 0; k < d; k++) away[k] = at->eta[k] - g->mean[k];
  NAME(apply)(g->precision, away, pulled, d);
  const REAL *theta = offset ? expected : at->theta;
  for (long k = 0; k < d; k++) {
    square += away[k] * pulled[k];
    at->gradient[k] = at->theta[k] * shares[k] - (REAL)tokens * theta[k] - pulled[k];
  }
  if (g->delta) { /* less N tr((diag theta - theta theta^T) V) / 2 */
    const REAL *V = g->covariance + document * d * d;
    double inner = 0, outer = 0;
    NAME(apply)(V, at->theta, pulled, d);
    for (long k = 0; k < d; k++) inner += at->theta[k] * V[k * d + k], outer += at->theta[k] * pulled[k];
    spread = 0.5 * tokens * (inner - outer);
    for (long k = 0; k < d; k++)
      at->gradient[k] -= (REAL)(0.5 * tokens * at->theta[k] * (V[k * d + k] - inner - 2 * (pulled[k] - outer)));
  }
  if (!g->size) at->evidence = value + tokens * (whole - moved);
  at->value = value + tokens * (whole - moved) - 0.5 * square - spread;
}

static void NAME(climb_document)(const NAME(climb_given) *g, REAL *memory, REAL *near, REAL *theta, REAL *ratio,
                                 long document) {
  const long d = g->K - 1, width = g->width, cells = g->starts[document + 1] - g->starts[document];
  REAL *work = memory, *step = work + 4 * width;
  NAME(place) places[2], *at = places, *tried = places + 1;
  memory = step + width;
  for (long j = 0; j < 2; j++, memory += 3 * width + g->room) {
    memset(memory, 0, 3 * width * sizeof(REAL));
    places[j].eta = memory, places[j].theta = memory + width;
    places[j].gradient = memory + 2 * width, places[j].ratio = memory + 3 * width;
  }
  memcpy(at->eta, g->eta + document * d, d * sizeof(REAL));
  NAME(soft)(at->eta, 0, at->theta, d);
  NAME(gather)(g, at, near, document);
  NAME(evaluate)(g, at, near, work, document);
  g->evidence[document] = at->evidence;
  double length = 1, gain = 0;
  int moved = 1;
  for (long taken = 0;; taken++) {
    if (moved) {
      NAME(apply)(g->covariance + document * d * d, at->gradient, step, d);
      gain = 0;
      for (long k = 0; k < d; k++) gain += step[k] * at->gradient[k];
      if (!taken) g->left[document] = gain;
    }
    const double rounding = (sizeof(REAL) == 8 ? 2.2e-16 : 1.2e-7) * (1 + fabs(at->value));
    if (taken >= g->steps || !(gain * length > 1e-2 * rounding)) break;
    for (long k = 0; k < d; k++) tried->eta[k] = at->eta[k] + (REAL)length * step[k];
    NAME(evaluate)(g, tried, near, work, document);
    moved = tried->value >= at->value - rounding;
    length = moved ? 1 : 0.25 * length;
    if (!moved) continue;
    NAME(place) *other = at;
    at = tried, tried = other;
  }
  memcpy(g->eta + document * d, at->eta, d * sizeof(REAL));
  memcpy(theta, at->theta, width * sizeof(REAL));
  memcpy(ratio, at->ratio, cells * sizeof(REAL));
}

static void NAME(climb_block)(zoo_work *work, long block, long thread) {
  const NAME(climb_given) *g = work->given;
  const long width = g->width, first = block * DOCUMENTS, last = MIN(g->B, first + DOCUMENTS);
  const long own = 11 * width + 2 * g->room, each = (g->room + 1) * width + g->room;
  REAL *memory = g->scratch + thread * (own + DOCUMENTS * each), *kept = memory + own;
  for (long i = first; i < last; i++) {
    REAL *near = kept + (i - first) * each, *theta = near + g->room * width;
    NAME(climb_document)(g, memory, near, theta, theta + width, i);
  }
  zoo_turn(work, block);
  for (long i = first; i < last; i++) {
    const REAL *near = kept + (i - first) * each, *theta = near + g->room * width, *ratio = theta + width;
    const VECTOR *t = (const VECTOR *)theta;
    for (long e = g->starts[i]; e < g->starts[i + 1]; e++) {
      const VECTOR *b = (const VECTOR *)(near + (e - g->starts[i]) * width);
      const REAL q = ratio[e - g->starts[i]];
      VECTOR *to = (VECTOR *)(g->columns + g->words[e] * width);
      for (long v = 0; v < width / LANES; v++) to[v] += q * t[v] * b[v];
    }
  }
  zoo_done(work);
}

/* Scratch: [threads, 11 width + 2 room + DOCUMENTS ((room + 1) width + room)]; room: the most words of a document, and
   width: K, both rounded up to whole vectors. Left: twice what the first step may gain. */
void NAME(climb)(const REAL *beta, const REAL *size, const REAL *own, const REAL *offset,
                 const REAL *counts, const long *starts, const long *words, const REAL *mean, const REAL *precision,
                 const REAL *covariance, REAL *eta, REAL *evidence, REAL *left, REAL *columns, REAL *scratch, long B,
                 long K, long width, long room, long steps, long delta, long threads) {
  NAME(climb_given) given = {beta, size, own, offset, counts, starts, words, mean, precision, covariance, eta,
                             evidence, left, columns, scratch, B, K, width, room, steps, delta};
  zoo_run(NAME(climb_block), &given, (B + DOCUMENTS - 1) / DOCUMENTS, threads);
}
