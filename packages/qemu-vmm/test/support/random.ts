/** A repeatable source of small numbers: the same seed, the same ones. */
export function random(seed: number): (below: number) => number {
  let state = (seed * 2_654_435_761) >>> 0
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** 32-bit words from a seed (xorshift32): as random as a hostile guest needs to be, and fast. */
export function words(seed: number): () => number {
  let word = seed >>> 0 || 1
  return () => {
    word ^= word << 13
    word ^= word >>> 17
    word ^= word << 5
    return word >>> 0
  }
}
