import type { Position } from '../../xml/index.ts'

/** Where an object of a definition comes from. */
export interface Origin {
  path: string
  position: Position | undefined
}

const origins = new WeakMap<object, Origin>()

/** Remembers where an object was read, so that what is found out later can name the line. */
export function setOrigin(model: object, origin: Origin): void {
  origins.set(model, origin)
}

/** Where an object was read; undefined for one that was made by a program. */
export function originOf(model: object): Origin | undefined {
  return origins.get(model)
}
