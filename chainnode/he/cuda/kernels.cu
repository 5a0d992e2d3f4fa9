/* The passes over encrypted columns and the transforms of relinearisation, for a graphics processor.
 *
 * Plain C that a CUDA compiler and a C compiler both take: every kernel is a loop over independent
 * indices, so that the tests run this very text on a machine without such a processor. Whole
 * numbers only, and canonical residues at the end, so that the bytes are those of crates/chain-he.
 *
 * Every scalar argument is a u32, every other one a pointer. Loops whose bounds are constants of the
 * wrappers at the end are unrolled, so that what they index stays in registers. */

typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;
typedef unsigned __int128 u128;

#ifdef __CUDACC__
#define KERNEL extern "C" __global__ void __launch_bounds__(128)
#define INLINE static __device__ __forceinline__
#define EACH(index, count)                                                     \
    for (u32 index = blockIdx.x * blockDim.x + threadIdx.x; index < (count);   \
         index += gridDim.x * blockDim.x)
#define UNROLL _Pragma("unroll")
#define UNROLL_FOUR _Pragma("unroll 4")
#define MULTIPLY_HIGH(a, b) __umul64hi(a, b)
#define LOAD(address) __ldg(address)
#define RESTRICT __restrict__
#else
#define KERNEL void
#define INLINE static inline __attribute__((always_inline))
#define EACH(index, count) for (u32 index = 0; index < (count); index++)
#define UNROLL
#define UNROLL_FOUR
#define MULTIPLY_HIGH(a, b) ((u64)((u128)(a) * (b) >> 64))
#define LOAD(address) (*(address))
#define RESTRICT restrict
#endif

#define TILE 64
/* Words of a stored tile of one block: 48 bits a residue, as packing.rs lays them out. */
#define PIECE 48
#define LOW ((1ULL << 48) - 1)
/* Threads of a piece, and residues of each: three words hold three residues and parts of a fourth. */
#define PLACES 16
#define FOUR 4
#define FACTORS_MAX 4
/* Sums below 2^62 in magnitude become positive by adding the prime this often, shifted. */
#define LIFT_BITS 20
#define SKIPPED 0xffffffffu

/* A prime q of b bits (42, 43 or, for the plain modulus, fewer). */
typedef struct {
    u64 value;
    u64 shift;       /* b - 1 */
    u64 ratio;       /* floor(2^(63 + b) / q) */
    u64 word_ratio;  /* floor(2^64 / q) */
    u64 two_to_64;   /* 2^64 modulo q */
} Prime;

/* A fixed factor with floor(value 2^64 / q), as Shoup multiplies. */
typedef struct {
    u64 value;
    u64 quotient;
} Factor;

INLINE u64 subtract_once(u64 x, u64 q) { return x >= q ? x - q : x; }

/* Barrett, the estimate at most one short. */
INLINE u64 reduce_word(u64 x, const Prime *p) {
    return subtract_once(x - MULTIPLY_HIGH(x, p->word_ratio) * p->value, p->value);
}

/* Barrett for sums below 2^(63 + b), the estimate at most two short. */
INLINE u64 reduce_product(u128 x, const Prime *p) {
    u64 rest = (u64)x - MULTIPLY_HIGH((u64)(x >> p->shift), p->ratio) * p->value;
    return subtract_once(subtract_once(rest, 2 * p->value), p->value);
}

INLINE u64 reduce_wide(u128 x, const Prime *p) {
    return reduce_product((u128)reduce_word((u64)(x >> 64), p) * p->two_to_64 + (u64)x, p);
}

INLINE u64 reduce_signed(i64 x, const Prime *p) {
    return reduce_word((u64)x + (p->value << LIFT_BITS), p);
}

INLINE u64 add(u64 a, u64 b, u64 q) { return subtract_once(a + b, q); }
INLINE u64 subtract(u64 a, u64 b, u64 q) { return subtract_once(a + q - b, q); }

/* In [0, 2 q) for any a. */
INLINE u64 multiply_lazily(u64 a, const Factor *factor, u64 q) {
    return a * factor->value - MULTIPLY_HIGH(a, factor->quotient) * q;
}

/* Four residues of a piece. */
INLINE void unpack(const u64 *RESTRICT piece, u32 place, u64 x[FOUR]) {
    const u64 *words = piece + (place >> 3) * (PIECE / 2) + (place & 7);
    u64 a = LOAD(words), b = LOAD(words + 8), c = LOAD(words + 16);
    x[0] = a & LOW;
    x[1] = b & LOW;
    x[2] = c & LOW;
    x[3] = a >> 48 | b >> 48 << 16 | c >> 48 << 32;
}

/* Where the residues that `unpack` gives lie in their tile. */
INLINE u32 position(u32 place, u32 which) {
    u32 half = place >> 3, lane = place & 7;
    return which < 3 ? (half * 3 + which) * 8 + lane : 48 + half * 8 + lane;
}

/* Weighted sums over columns, one a model and block: out [model][block][2][limb][degree].
 *
 * `planes` [limb][column] are addresses, `weights` [limb][column][all_models] residues or, when small,
 * signed numbers. */
INLINE void weighted(const u32 models, const int is_small, u32 degree, u32 limbs, u32 blocks,
                     u32 first, u32 count, u32 columns, u32 model, u32 all_models,
                     const u64 *RESTRICT planes, const i64 *RESTRICT weights,
                     const Prime *RESTRICT primes, u64 *RESTRICT out) {
    u32 tiles = degree / TILE;
    EACH(index, 2 * limbs * tiles * count * PLACES) {
        u32 place = index % PLACES, rest = index / PLACES;
        u32 block = rest % count;
        rest /= count;
        u32 tile = rest % tiles;
        rest /= tiles;
        u32 polynomial = rest % 2, limb = rest / 2;
        u64 piece = ((u64)polynomial * tiles + tile) * blocks + first + block;
        i64 narrow[FACTORS_MAX][FOUR] = {{0}};
        u128 wide[FACTORS_MAX][FOUR] = {{0}};
        UNROLL_FOUR for (u32 column = 0; column < columns; column++) {
            u64 x[FOUR];
            unpack((const u64 *)planes[limb * columns + column] + piece * PIECE, place, x);
            const i64 *row = weights + ((u64)limb * columns + column) * all_models + model;
            UNROLL for (u32 m = 0; m < models; m++) {
                i64 weight = LOAD(row + m);
                UNROLL for (u32 i = 0; i < FOUR; i++) {
                    if (is_small) {
                        narrow[m][i] += (i64)x[i] * weight;
                    } else {
                        wide[m][i] += (u128)x[i] * (u64)weight;
                    }
                }
            }
        }
        Prime prime = primes[limb];
        UNROLL for (u32 m = 0; m < models; m++) {
            u64 row = (((u64)(model + m) * count + block) * 2 + polynomial) * limbs + limb;
            UNROLL for (u32 i = 0; i < FOUR; i++) {
                out[row * degree + tile * TILE + position(place, i)] =
                    is_small ? reduce_signed(narrow[m][i], &prime) : reduce_wide(wide[m][i], &prime);
            }
        }
    }
}

/* One factor's two polynomials at four residues. */
INLINE void both(const int is_small, const u64 *RESTRICT planes, const u32 *RESTRICT slots,
                 const i64 *RESTRICT weights, u32 from, u32 to, u64 constant, u64 piece,
                 u64 further, u32 place, const Prime *prime, u64 x[2][FOUR]) {
    i64 narrow[2][FOUR];
    u128 wide[2][FOUR];
    UNROLL for (u32 i = 0; i < FOUR; i++) {
        narrow[0][i] = (i64)constant;
        wide[0][i] = constant;
        narrow[1][i] = 0;
        wide[1][i] = 0;
    }
    for (u32 entry = from; entry < to; entry++) {
        const u64 *plane = (const u64 *)planes[LOAD(slots + entry)] + piece * PIECE;
        i64 weight = LOAD(weights + entry);
        UNROLL for (u32 polynomial = 0; polynomial < 2; polynomial++) {
            u64 y[FOUR];
            unpack(plane + polynomial * further, place, y);
            UNROLL for (u32 i = 0; i < FOUR; i++) {
                if (is_small) {
                    narrow[polynomial][i] += (i64)y[i] * weight;
                } else {
                    wide[polynomial][i] += (u128)y[i] * (u64)weight;
                }
            }
        }
    }
    UNROLL for (u32 polynomial = 0; polynomial < 2; polynomial++) {
        UNROLL for (u32 i = 0; i < FOUR; i++) {
            x[polynomial][i] = is_small ? reduce_signed(narrow[polynomial][i], prime)
                                        : reduce_wide(wide[polynomial][i], prime);
        }
    }
}

/* Sums over a share of the blocks of products of factors: out [term][share][factors + 1][limb][degree].
 *
 * Factor f of a term is the entries from starts[term factors + f] to the next start: columns `slots`,
 * `weights` [limb][entry] as in `weighted`, `constants` [limb][term][factor] residues. */
INLINE void products(const u32 factors, const int is_small, u32 degree, u32 limbs, u32 blocks,
                     u32 first, u32 count, u32 columns, u32 terms, u32 entries, u32 shares,
                     const u64 *RESTRICT planes, const u32 *RESTRICT slots,
                     const u32 *RESTRICT starts, const i64 *RESTRICT weights,
                     const u64 *RESTRICT constants, const Prime *RESTRICT primes,
                     u64 *RESTRICT out) {
    u32 tiles = degree / TILE, per_share = (count + shares - 1) / shares;
    u64 further = (u64)tiles * blocks * PIECE;
    EACH(index, terms * shares * limbs * tiles * PLACES) {
        u32 place = index % PLACES, rest = index / PLACES;
        u32 tile = rest % tiles;
        rest /= tiles;
        u32 limb = rest % limbs;
        rest /= limbs;
        u32 share = rest % shares, term = rest / shares;
        u32 from = share * per_share, to = from + per_share < count ? from + per_share : count;
        Prime prime = primes[limb];
        const u64 *limb_planes = planes + limb * columns;
        const i64 *limb_weights = weights + (u64)limb * entries;
        const u64 *limb_constants = constants + ((u64)limb * terms + term) * factors;
        const u32 *bounds = starts + term * factors;
        u128 sums[FACTORS_MAX + 1][FOUR] = {{0}};
        for (u32 block = from; block < to; block++) {
            u64 piece = (u64)tile * blocks + first + block;
            u64 product[FACTORS_MAX][FOUR], x[2][FOUR];
            both(is_small, limb_planes, slots, limb_weights, LOAD(bounds), LOAD(bounds + 1),
                 LOAD(limb_constants), piece, further, place, &prime, x);
            if (factors == 1) {
                UNROLL for (u32 i = 0; i < FOUR; i++) {
                    sums[0][i] += x[0][i];
                    sums[1][i] += x[1][i];
                }
                continue;
            }
            UNROLL for (u32 i = 0; i < FOUR; i++) {
                product[0][i] = x[0][i];
                product[1][i] = x[1][i];
            }
            UNROLL for (u32 f = 1; f < factors; f++) {
                both(is_small, limb_planes, slots, limb_weights, LOAD(bounds + f),
                     LOAD(bounds + f + 1), LOAD(limb_constants + f), piece, further, place, &prime,
                     x);
                UNROLL for (u32 i = 0; i < FOUR; i++) {
                    u128 next[FACTORS_MAX + 1];
                    UNROLL for (u32 d = 0; d <= f + 1; d++) {
                        next[d] = 0;
                        if (d <= f) next[d] += (u128)product[d][i] * x[0][i];
                        if (d >= 1) next[d] += (u128)product[d - 1][i] * x[1][i];
                    }
                    UNROLL for (u32 d = 0; d <= f + 1; d++) {
                        if (f + 1 == factors) {
                            sums[d][i] += next[d];
                        } else {
                            product[d][i] = reduce_product(next[d], &prime);
                        }
                    }
                }
            }
        }
        UNROLL for (u32 d = 0; d <= factors; d++) {
            u64 row = (((u64)term * shares + share) * (factors + 1) + d) * limbs + limb;
            UNROLL for (u32 i = 0; i < FOUR; i++) {
                out[row * degree + tile * TILE + position(place, i)] =
                    reduce_wide(sums[d][i], &prime);
            }
        }
    }
}

KERNEL copy_words(u32 count, const u64 *RESTRICT from, u64 *RESTRICT to) {
    EACH(index, count) to[index] = from[index];
}

/* Exclusive or of every `threads`-th word, one a thread: reads as fast as memory gives them. */
KERNEL read_words(u32 threads, u32 count, const u64 *RESTRICT words, u64 *RESTRICT out) {
    EACH(index, threads) {
        u64 x = 0;
        UNROLL_FOUR for (u32 at = index; at < count; at += threads) x ^= LOAD(words + at);
        out[index] = x;
    }
}

/* Each row of `out` is the sum of the rows of `parts` that sources[starts[row]..starts[row + 1]] name. */
KERNEL add_rows(u32 rows, u32 degree, u32 limbs, const u64 *RESTRICT parts,
                const u32 *RESTRICT sources, const u32 *RESTRICT starts,
                const Prime *RESTRICT primes, u64 *RESTRICT out) {
    EACH(index, rows * degree) {
        u32 row = index / degree, at = index % degree;
        u64 sum = 0;
        for (u32 i = starts[row]; i < starts[row + 1]; i++) {
            sum += parts[(u64)sources[i] * degree + at];
        }
        out[index] = reduce_word(sum, &primes[row % limbs]);
    }
}

/* Sets the flag when a residue of [rows][degree], limb row % limbs, is not below its prime. */
KERNEL out_of_range(u32 rows, u32 degree, u32 limbs, const u64 *RESTRICT words,
                    const Prime *RESTRICT primes, u64 *RESTRICT flag) {
    EACH(index, rows * degree) {
        if (words[index] >= primes[index / degree % limbs].value) *flag = 1;
    }
}

/* Some stages of the forward transform of rows [row][degree] modulo prime `limbs[row]`, from the one
 * with `groups` groups on: elements a stride apart go through all of them in registers. */
INLINE void forward(const u32 stages, u32 rows, u32 degree, u32 groups, u32 is_last,
                    const u32 *RESTRICT limbs, const Factor *RESTRICT roots,
                    const Prime *RESTRICT primes, u64 *RESTRICT words) {
    const u32 elements = 1u << stages;
    u32 gap = degree / (2 * groups), stride = gap >> (stages - 1), per_row = degree / elements;
    EACH(index, rows * per_row) {
        u32 row = index / per_row, group = index % per_row / stride, at = index % per_row % stride;
        u32 limb = limbs[row];
        if (limb == SKIPPED) continue;
        u64 q = primes[limb].value, a[16];
        u64 *start = words + (u64)row * degree + group * 2 * gap + at;
        const Factor *table = roots + (u64)limb * degree;
        UNROLL for (u32 j = 0; j < elements; j++) a[j] = start[j * stride];
        UNROLL for (u32 k = 0; k < stages; k++) {
            const u32 half = elements >> (k + 1);
            UNROLL for (u32 pair = 0; pair < elements / 2; pair++) {
                const u32 sub = pair / half, j = sub * 2 * half + pair % half;
                Factor root = table[((groups + group) << k) + sub];
                u64 u = subtract_once(a[j], 2 * q);
                u64 v = multiply_lazily(a[j + half], &root, q);
                a[j] = u + v;
                a[j + half] = u + 2 * q - v;
            }
        }
        UNROLL for (u32 j = 0; j < elements; j++) {
            if (is_last) a[j] = subtract_once(subtract_once(a[j], 2 * q), q);
            start[j * stride] = a[j];
        }
    }
}

/* Some stages of the inverse transform, from the one with that gap on; the last one scales. */
INLINE void inverse(const u32 stages, u32 rows, u32 degree, u32 gap, u32 is_last,
                    const u32 *RESTRICT limbs, const Factor *RESTRICT roots,
                    const Factor *RESTRICT scales, const Prime *RESTRICT primes,
                    u64 *RESTRICT words) {
    const u32 elements = 1u << stages;
    u32 groups = degree / (2 * gap), per_row = degree / elements;
    EACH(index, rows * per_row) {
        u32 row = index / per_row, chunk = index % per_row / gap, at = index % per_row % gap;
        u32 limb = limbs[row];
        if (limb == SKIPPED) continue;
        u64 q = primes[limb].value, a[16];
        u64 *start = words + (u64)row * degree + chunk * elements * gap + at;
        const Factor *table = roots + (u64)limb * degree;
        UNROLL for (u32 j = 0; j < elements; j++) a[j] = start[j * gap];
        UNROLL for (u32 k = 0; k < stages; k++) {
            const u32 half = 1u << k;
            UNROLL for (u32 pair = 0; pair < elements / 2; pair++) {
                const u32 sub = pair / half, j = sub * 2 * half + pair % half;
                Factor root = table[(groups >> k) + (chunk << (stages - 1 - k)) + sub];
                u64 u = a[j], v = a[j + half];
                a[j] = subtract_once(u + v, 2 * q);
                a[j + half] = multiply_lazily(u + 2 * q - v, &root, q);
            }
        }
        Factor scale = scales[limb];
        UNROLL for (u32 j = 0; j < elements; j++) {
            start[j * gap] = is_last ? subtract_once(multiply_lazily(a[j], &scale, q), q) : a[j];
        }
    }
}

/* Rows [limbs + 1][digit] to be transformed: each digit's coefficients, in its own limb its values. */
KERNEL spread(u32 degree, u32 limbs, const u64 *RESTRICT digits, const u64 *RESTRICT values,
              u64 *RESTRICT out) {
    EACH(index, (limbs + 1) * limbs * degree) {
        u32 row = index / degree, digit = row % limbs, at = index % degree;
        out[index] = (row / limbs == digit ? values : digits)[digit * degree + at];
    }
}

/* Sums over digits of digit times key: out [2][limbs + 1][degree], the special prime last.
 *
 * `lifted` is [limbs + 1][digit][degree], the key [digit][2][all_limbs][degree]. */
KERNEL multiply_key(u32 degree, u32 limbs, u32 all_limbs, const u64 *RESTRICT lifted,
                    const u64 *RESTRICT key, const Prime *RESTRICT primes, u64 *RESTRICT out) {
    EACH(index, 2 * (limbs + 1) * degree) {
        u32 at = index % degree, row = index / degree;
        u32 limb = row % (limbs + 1), part = row / (limbs + 1);
        u32 table = limb < limbs ? limb : all_limbs - 1;
        Prime prime = primes[table];
        u128 sum = 0;
        for (u32 digit = 0; digit < limbs; digit++) {
            u64 place = ((u64)digit * 2 + part) * all_limbs + table;
            sum += (u128)lifted[((u64)limb * limbs + digit) * degree + at] * key[place * degree + at];
        }
        out[index] = reduce_product(sum, &prime);
    }
}

/* x modulo the prime, x the representative of least magnitude of a residue modulo another. */
INLINE u64 centred(u64 x, u64 other, const Prime *p) {
    u64 residue = reduce_word(x > other / 2 ? other - x : x, p);
    return x > other / 2 && residue ? p->value - residue : residue;
}

/* delta + P k with k = -delta / P modulo t, both centred: [2][limbs][degree] of the special rows
 * [2][limbs + 1][degree], whose last are coefficients modulo the special prime P. */
KERNEL special_correction(u32 degree, u32 limbs, u32 all_limbs, const u64 *RESTRICT sums,
                          const Prime *RESTRICT plain, const u64 *RESTRICT inverse_plain,
                          const Prime *RESTRICT primes, u64 *RESTRICT out) {
    EACH(index, 2 * limbs * degree) {
        u32 at = index % degree, row = index / degree, limb = row % limbs, part = row / limbs;
        u64 special = primes[all_limbs - 1].value;
        u64 x = sums[((u64)part * (limbs + 1) + limbs) * degree + at];
        Prime t = *plain, prime = primes[limb];
        u64 k = reduce_product((u128)centred(x, special, &t) * *inverse_plain, &t);
        k = k ? t.value - k : 0;
        u64 multiple = reduce_product(
            (u128)centred(k, t.value, &prime) * reduce_word(special, &prime), &prime);
        out[index] = add(centred(x, special, &prime), multiple, prime.value);
    }
}

/* Adds (sums - correction) / P to two polynomials [2][limbs][degree]. */
KERNEL add_divided(u32 degree, u32 limbs, const u64 *RESTRICT sums, const u64 *RESTRICT correction,
                   const Factor *RESTRICT special_inverses, const Prime *RESTRICT primes,
                   u64 *RESTRICT out) {
    EACH(index, 2 * limbs * degree) {
        u32 at = index % degree, row = index / degree, limb = row % limbs, part = row / limbs;
        u64 q = primes[limb].value;
        u64 sum = sums[((u64)part * (limbs + 1) + limb) * degree + at];
        Factor scale = special_inverses[limb];
        u64 divided = multiply_lazily(subtract(sum, correction[index], q), &scale, q);
        out[index] = add(out[index], subtract_once(divided, q), q);
    }
}

#define WEIGHTED(models, is_small, name)                                                          \
    KERNEL name(u32 degree, u32 limbs, u32 blocks, u32 first, u32 count, u32 columns, u32 model,  \
                u32 all_models, const u64 *planes, const i64 *weights, const Prime *primes,       \
                u64 *out) {                                                                       \
        weighted(models, is_small, degree, limbs, blocks, first, count, columns, model,           \
                 all_models, planes, weights, primes, out);                                       \
    }
WEIGHTED(1, 1, weighted_1_small)
WEIGHTED(2, 1, weighted_2_small)
WEIGHTED(4, 1, weighted_4_small)
WEIGHTED(1, 0, weighted_1)
WEIGHTED(2, 0, weighted_2)

#define PRODUCTS(factors, is_small, name)                                                         \
    KERNEL name(u32 degree, u32 limbs, u32 blocks, u32 first, u32 count, u32 columns, u32 terms,  \
                u32 entries, u32 shares, const u64 *planes, const u32 *slots, const u32 *starts,  \
                const i64 *weights, const u64 *constants, const Prime *primes, u64 *out) {        \
        products(factors, is_small, degree, limbs, blocks, first, count, columns, terms, entries, \
                 shares, planes, slots, starts, weights, constants, primes, out);                 \
    }
PRODUCTS(1, 1, products_1_small)
PRODUCTS(2, 1, products_2_small)
PRODUCTS(3, 1, products_3_small)
PRODUCTS(4, 1, products_4_small)
PRODUCTS(1, 0, products_1)
PRODUCTS(2, 0, products_2)
PRODUCTS(3, 0, products_3)
PRODUCTS(4, 0, products_4)

#define TRANSFORMS(stages, forward_name, inverse_name)                                            \
    KERNEL forward_name(u32 rows, u32 degree, u32 groups, u32 is_last, const u32 *limbs,          \
                        const Factor *roots, const Prime *primes, u64 *words) {                   \
        forward(stages, rows, degree, groups, is_last, limbs, roots, primes, words);              \
    }                                                                                             \
    KERNEL inverse_name(u32 rows, u32 degree, u32 gap, u32 is_last, const u32 *limbs,             \
                        const Factor *roots, const Factor *scales, const Prime *primes,           \
                        u64 *words) {                                                             \
        inverse(stages, rows, degree, gap, is_last, limbs, roots, scales, primes, words);         \
    }
TRANSFORMS(1, forward_1, inverse_1)
TRANSFORMS(2, forward_2, inverse_2)
TRANSFORMS(3, forward_3, inverse_3)
TRANSFORMS(4, forward_4, inverse_4)
