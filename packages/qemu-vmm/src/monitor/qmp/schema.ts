import { struct } from './types.ts'
import type { QmpMembers, QmpObject, QmpType, ScalarName } from './types.ts'

/** A command as far as the schema tells of it. */
export interface DescribedCommand {
  name: string
  args: QmpObject
  returns?: QmpType
}

const JSON_TYPES: Readonly<Record<ScalarName, string>> = {
  str: 'string',
  int: 'int',
  number: 'number',
  bool: 'boolean',
  any: 'value',
}

/** What a command that returns nothing returns, and the data of an event that has none. */
const EMPTY: QmpObject = struct({})

/**
 * The answer to `query-qmp-schema`: commands, events and the types that they use. Types have numbers for names,
 * as QEMU's have, and are the same entity where they are the same.
 */
export function schemaOf(
  commands: readonly DescribedCommand[],
  events: Readonly<Record<string, QmpObject>>,
): object[] {
  const types = new TypeTable()
  const described = commands.map(({ name, args, returns = EMPTY }) => ({
    name,
    'meta-type': 'command',
    'arg-type': types.name(args),
    'ret-type': types.name(returns),
  }))
  const told = Object.entries(events).map(([name, data]) => ({
    name,
    'meta-type': 'event',
    'arg-type': types.name(data),
  }))
  return [...described, ...told, ...types.entities]
}

class TypeTable {
  readonly entities: object[] = []
  /** Names by what a type is. */
  readonly #names = new Map<string, string>()
  #next = 0

  name(type: QmpType): string {
    if (type.meta === 'builtin') {
      this.#once(`builtin ${type.name}`, type.name, () => ({
        'meta-type': 'builtin',
        'json-type': JSON_TYPES[type.name],
      }))
      return type.name
    }
    if (type.meta === 'array') {
      const element = this.name(type.element)
      const name = `[${element}]`
      return this.#once(name, name, () => ({ 'meta-type': 'array', 'element-type': element }))
    }
    return this.#once(JSON.stringify(type), undefined, () => this.#body(type))
  }

  #once(key: string, fixed: string | undefined, body: () => object): string {
    const known = this.#names.get(key)
    if (known !== undefined) return known
    const name = fixed ?? String(this.#next++)
    this.#names.set(key, name)
    this.entities.push({ name, ...body() })
    return name
  }

  #body(type: Exclude<QmpType, { meta: 'builtin' | 'array' }>): object {
    switch (type.meta) {
      case 'enum':
        return {
          'meta-type': 'enum',
          members: type.values.map((name) => ({ name })),
          values: type.values,
        }
      case 'alternate':
        return {
          'meta-type': 'alternate',
          members: type.of.map((member) => ({ type: this.name(member) })),
        }
      case 'object':
        return {
          'meta-type': 'object',
          members: this.#members(type.members),
          ...this.#variants(type),
        }
    }
  }

  #members(members: QmpMembers): object[] {
    return Object.entries(members).map(([name, { type, optional = false }]) => ({
      name,
      type: this.name(type),
      // QEMU has no other default to tell either.
      ...(optional ? { default: null } : {}),
    }))
  }

  #variants({ tag, variants }: QmpObject): object {
    if (tag === undefined || variants === undefined) return {}
    return {
      tag,
      variants: Object.entries(variants).map(([value, members]) => ({
        case: value,
        type: this.name({ meta: 'object', members }),
      })),
    }
  }
}
