import type { ConnectRequest, Verdict } from '../../net/user/decision.ts'

/** The worker's end of hooks that decide on connections: each question crosses once, and so does its answer. */
export class ConnectQuestions {
  readonly #send: (id: number, request: ConnectRequest) => void
  readonly #waiting = new Map<number, (verdict: Verdict) => void>()
  #next = 0

  /** `send` posts a question. */
  constructor(send: (id: number, request: ConnectRequest) => void) {
    this.#send = send
  }

  /** As a hook. */
  readonly ask = (request: ConnectRequest): Promise<Verdict> =>
    new Promise((resolve) => {
      const id = this.#next++
      this.#waiting.set(id, resolve)
      this.#send(id, request)
    })

  /** The other side has decided. */
  answer(id: number, verdict: Verdict): void {
    this.#waiting.get(id)?.(verdict)
    this.#waiting.delete(id)
  }
}
