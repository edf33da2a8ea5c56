import type { Position } from '../../xml/index.ts'

/** Where an object of a definition comes from. */
export interface Origin {
  path: string
  position: Position | undefined
}

/** Returns what it is given, so that what extends it puts its fields in an object that is there already. */
const Given = function (model: object) {
  return model
} as unknown as new (model: object) => object

/** A field that no other code sees, copies or compares. A WeakMap would do as well, and cost a tenth of a definition's time. */
class Marked extends Given {
  readonly #origin: Origin

  constructor(model: object, origin: Origin) {
    super(model)
    this.#origin = origin
  }

  static mark(model: object, origin: Origin): void {
    // eslint-disable-next-line no-new -- what it makes is in the model
    new Marked(model, origin)
  }

  static originOf(model: object): Origin | undefined {
    return #origin in model ? model.#origin : undefined
  }
}

/** Remembers where an object was read, so that what is found out later can name the line. */
export function setOrigin(model: object, origin: Origin): void {
  Marked.mark(model, origin)
}

/** Where an object was read; undefined for one that was made by a program. */
export function originOf(model: object): Origin | undefined {
  return Marked.originOf(model)
}
