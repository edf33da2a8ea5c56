import type { Domain } from '../driver/domain.ts'
import type { ServerConnection } from '../rpc/index.ts'

/** Domains that end with the client that started them. */
export class AutoDestroy {
  readonly #byClient = new Map<ServerConnection, Map<Domain, number>>()

  /** Has a domain that runs end with a client, unless it has ended before, and been started again by somebody else. */
  watch(connection: ServerConnection, domain: Domain): void {
    let runs = this.#byClient.get(connection)
    if (runs === undefined) {
      runs = new Map()
      this.#byClient.set(connection, runs)
      connection.onClose(() => this.#ended(connection))
    }
    for (const [other, id] of runs) if (!other.isActive || other.id !== id) runs.delete(other)
    runs.set(domain, domain.id)
    // It went while the domain was started.
    if (connection.isClosed) this.#ended(connection)
  }

  #ended(connection: ServerConnection): void {
    const runs = this.#byClient.get(connection) ?? []
    this.#byClient.delete(connection)
    for (const [domain, id] of runs) {
      if (!domain.isActive || domain.id !== id) continue
      // Nobody is left who could be told.
      domain.destroy({ graceful: false }).catch(() => undefined)
    }
  }
}
