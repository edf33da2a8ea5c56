import type { IoEventFd, IrqFd, IrqRoute, RouteHandle, RouteRange } from './api/vm.ts'
import { native } from './errors.ts'
import type { NativeIoEvent, NativeIrqFd, NativeRoute } from './native/addon.ts'
import { addon } from './native/loader.ts'

/** Something that the VM closes with itself. */
export interface Closable {
  close(): void
}

type Forget = (closed: Closable) => void

export class IrqFdImpl implements IrqFd {
  readonly gsi: number
  readonly #native: NativeIrqFd
  readonly #forget: Forget
  #open = true

  constructor(gsi: number, from: NativeIrqFd, forget: Forget) {
    this.gsi = gsi
    this.#native = from
    this.#forget = forget
  }

  get fd(): number {
    return native(() => this.#native.fd())
  }

  get resampleFd(): number {
    return this.#native.resampleFd()
  }

  trigger(): void {
    if (this.#open) this.#native.trigger()
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    native(() => this.#native.close())
    this.#forget(this)
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

export class IoEventFdImpl implements IoEventFd {
  readonly id: number
  readonly #native: NativeIoEvent
  readonly #forget: Forget

  constructor(id: number, from: NativeIoEvent, forget: Forget) {
    this.id = id
    this.#native = from
    this.#forget = forget
  }

  get fd(): number {
    return native(() => this.#native.fd())
  }

  setApart(apart: boolean): void {
    native(() => this.#native.setApart(apart))
  }

  close(): void {
    this.#native.close()
    this.#forget(this)
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

export class RouteImpl implements RouteHandle {
  readonly latch: Uint8Array | undefined
  readonly #native: NativeRoute
  readonly #forget: Forget

  constructor(from: NativeRoute, forget: Forget) {
    this.#native = from
    this.#forget = forget
    const buffer = native(() => from.latch())
    this.latch = buffer === null ? undefined : new Uint8Array(buffer)
  }

  close(): void {
    this.#native.close()
    if (this.latch !== undefined && this.latch.byteLength > 0) {
      addon().detachBuffer(this.latch.buffer as ArrayBuffer)
    }
    this.#forget(this)
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

/** Numbers of the route kinds for the addon. */
export const routeKinds: Readonly<Record<NonNullable<RouteRange['kind']>, number>> = {
  js: 0,
  posted: 1,
  latched: 2,
  ignore: 3,
}

/** GSI routes as the addon takes them: four numbers each. */
export function routeNumbers(entries: readonly IrqRoute[]): Float64Array {
  return Float64Array.from(
    entries.flatMap((e) =>
      e.type === 'msi' ? [e.gsi, 1, e.addr, e.data] : [e.gsi, 0, e.irqchip, e.pin],
    ),
  )
}
