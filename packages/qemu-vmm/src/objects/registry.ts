import type { Entropy } from '../device.ts'
import { VmmError } from '../errors.ts'
import type { ObjectConfig } from './config.ts'
import { FilterDump, type DumpedNetworks } from '../net/filter-dump.ts'
import { openFilter } from '../net/filter.ts'
import type { GatedNetworks } from '../net/netdevs.ts'
import type { NetworkFilter } from '../net/network-filter.ts'
import { BuiltinRng, FileRng } from './rng.ts'
import type { EntropySource } from './rng.ts'

/** Objects of a machine that devices refer to by id. */
export class ObjectRegistry {
  readonly #types = new Map<string, string>()
  readonly #rngs = new Map<string, EntropySource>()
  readonly #dumps = new Map<string, FilterDump>()
  readonly #filters = new Map<string, NetworkFilter>()
  readonly #users = new Map<string, number>()
  readonly #entropy: Entropy
  readonly #networks: DumpedNetworks & GatedNetworks

  /** Opens what is to be opened; nothing stays open after an error. */
  constructor(
    objects: readonly ObjectConfig[],
    entropy: Entropy,
    networks: DumpedNetworks & GatedNetworks,
  ) {
    this.#entropy = entropy
    this.#networks = networks
    try {
      for (const object of objects) this.add(object)
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** Opens one more. Throws `E_CONFIG` for an id that another has, `E_FILE` for a file that cannot be opened. */
  add(object: ObjectConfig): void {
    if (this.#types.has(object.id)) {
      throw new VmmError(
        'E_CONFIG',
        `attempt to add duplicate property '${object.id}' to object (type 'container')`,
        { fields: { id: object.id } },
      )
    }
    if (object.type === 'rng-random') this.#rngs.set(object.id, new FileRng(object))
    if (object.type === 'rng-builtin') this.#rngs.set(object.id, new BuiltinRng(this.#entropy))
    if (object.type === 'filter-dump') {
      this.#dumps.set(object.id, new FilterDump(object, this.#networks))
    }
    if (object.type === 'filter-buffer' || object.type === 'filter-throttle') {
      this.#filters.set(object.id, openFilter(object, this.#networks))
    }
    this.#types.set(object.id, object.type)
  }

  /** Ids of all objects, and their types. */
  list(): { id: string; type: string }[] {
    return Array.from(this.#types, ([id, type]) => ({ id, type }))
  }

  /** A property that can be looked at; undefined for none. */
  property(id: string, name: string): unknown {
    return this.#filters.get(id)?.get(name)
  }

  /** Changes one. Throws `E_CONFIG` for what it cannot be, and for one that cannot be changed. */
  setProperty(id: string, name: string, value: unknown): void {
    if (this.#filters.get(id)?.set(name, value) === true) return
    throw new VmmError('E_CONFIG', 'Insufficient permission to perform this operation', {
      fields: { id, property: name },
    })
  }

  /** Closes one. Throws `E_CONFIG` when there is none, or a device or the machine uses it. */
  remove(id: string): void {
    const type = this.#types.get(id)
    if (type === undefined) {
      throw new VmmError('E_CONFIG', `object '${id}' not found`, { fields: { id } })
    }
    const isRemovable = this.#rngs.has(id) || this.#dumps.has(id) || this.#filters.has(id)
    if (!isRemovable || this.#users.has(id)) {
      throw new VmmError('E_CONFIG', `object '${id}' is in use, can not be deleted`, {
        fields: { id },
      })
    }
    this.#dumps.get(id)?.close()
    this.#dumps.delete(id)
    this.#filters.get(id)?.close()
    this.#filters.delete(id)
    this.#rngs.get(id)?.close()
    this.#rngs.delete(id)
    this.#types.delete(id)
  }

  /** The source of random bytes with this id, which stays until it is released. Throws as `rng` does. */
  take(id: string): EntropySource {
    const source = this.rng(id)
    this.#users.set(id, (this.#users.get(id) ?? 0) + 1)
    return source
  }

  release(id: string): void {
    const users = (this.#users.get(id) ?? 0) - 1
    if (users > 0) this.#users.set(id, users)
    else this.#users.delete(id)
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
    const all = [...this.#rngs.values(), ...this.#dumps.values(), ...this.#filters.values()]
    for (const opened of all) opened.close()
    this.#rngs.clear()
    this.#dumps.clear()
    this.#filters.clear()
  }
}
