import type { Entropy } from '../device.ts'
import { VmmError } from '../errors.ts'
import type { ObjectConfig } from './config.ts'
import { BuiltinRng, FileRng } from './rng.ts'
import type { EntropySource } from './rng.ts'

/** Objects of a machine that devices refer to by id. */
export class ObjectRegistry {
  readonly #types = new Map<string, string>()
  readonly #rngs = new Map<string, EntropySource>()

  /** Opens what is to be opened; nothing stays open after an error. */
  constructor(objects: readonly ObjectConfig[], entropy: Entropy) {
    try {
      for (const object of objects) {
        this.#types.set(object.id, object.type)
        if (object.type === 'rng-random') this.#rngs.set(object.id, new FileRng(object))
        if (object.type === 'rng-builtin') this.#rngs.set(object.id, new BuiltinRng(entropy))
      }
    } catch (error) {
      this.close()
      throw error
    }
  }

  /**
   * The source of random bytes with this id.
   * @throws VmmError E_CONFIG when there is none
   */
  rng(id: string): EntropySource {
    const found = this.#rngs.get(id)
    if (found !== undefined) return found
    const type = this.#types.get(id)
    const reason =
      type === undefined
        ? `there is no object '${id}'; define it with type rng-random or rng-builtin`
        : `object '${id}' is a ${type}, not an rng-random or rng-builtin`
    throw new VmmError('E_CONFIG', reason, { fields: { id } })
  }

  close(): void {
    for (const rng of this.#rngs.values()) rng.close()
    this.#rngs.clear()
  }
}
