import { randomFillSync } from 'node:crypto'

import type { Entropy } from '../device.ts'

/** Randomness of the host. */
export const hostEntropy: Entropy = {
  fill(target) {
    randomFillSync(target)
  },
}

/** A reproducible sequence (xorshift32), for tests and deterministic runs. Not for keys. */
export class SeededEntropy implements Entropy {
  #word: number

  constructor(seed: number) {
    this.#word = seed >>> 0 || 0x9e3779b9
  }

  fill(target: Uint8Array): void {
    for (let i = 0; i < target.length; i++) {
      this.#word ^= this.#word << 13
      this.#word ^= this.#word >>> 17
      this.#word ^= this.#word << 5
      target[i] = this.#word
    }
  }
}
