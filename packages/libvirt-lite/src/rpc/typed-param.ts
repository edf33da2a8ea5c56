import { double, flag, hyper, int, string, uhyper, uint } from './codec.ts'
import type { Codec } from './codec.ts'
import { RpcError } from './errors.ts'

const CODECS = { int, uint, llong: hyper, ullong: uhyper, double, bool: flag, string } as const
const TYPES = ['int', 'uint', 'llong', 'ullong', 'double', 'bool', 'string'] as const

/** A named value with its type: how libvirt returns whatever may grow with time. */
export type TypedParam =
  | { field: string; type: 'int' | 'uint' | 'double'; value: number }
  | { field: string; type: 'llong' | 'ullong'; value: bigint }
  | { field: string; type: 'bool'; value: boolean }
  | { field: string; type: 'string'; value: string }

export const typedParam: Codec<TypedParam> = {
  size: 12,
  read(reader) {
    const field = string.read(reader)
    const tag = reader.uint()
    // The protocol counts the types from one.
    const type = TYPES[tag - 1]
    if (type === undefined) throw new RpcError('E_VALUE', `no typed parameter has the type ${tag}`)
    return { field, type, value: CODECS[type].read(reader) } as TypedParam
  },
  write(writer, { field, type, value }) {
    string.write(writer, field)
    writer.uint(TYPES.indexOf(type) + 1)
    ;(CODECS[type] as Codec<unknown>).write(writer, value)
  },
}
