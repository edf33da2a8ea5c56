import { bool, int, membersOf, oneOf, str } from './types.ts'
import type { QmpMembers, QmpObject, QmpType } from './types.ts'

const MEMORY = { size: int, 'prealloc?': bool, 'share?': bool } as const

const VARIANTS: Readonly<Record<string, QmpMembers>> = {
  'filter-buffer': membersOf({
    netdev: str,
    interval: int,
    'queue?': oneOf(['all', 'rx', 'tx']),
    'status?': oneOf(['on', 'off']),
  }),
  'filter-dump': membersOf({
    netdev: str,
    file: str,
    'maxlen?': int,
    'queue?': oneOf(['all', 'rx', 'tx']),
  }),
  'filter-throttle': membersOf({
    netdev: str,
    average: int,
    'peak?': int,
    'burst?': int,
    'queue?': oneOf(['all', 'rx', 'tx']),
  }),
  'memory-backend-file': membersOf({ ...MEMORY, 'mem-path': str }),
  'memory-backend-memfd': membersOf({ ...MEMORY, 'hugetlb?': bool, 'hugetlbsize?': int }),
  'memory-backend-ram': membersOf(MEMORY),
  'rng-builtin': {},
  'rng-random': membersOf({ 'filename?': str }),
}

/** Of `object-add`. */
export const OBJECT_ARGUMENTS: QmpObject = {
  meta: 'object',
  members: membersOf({ 'qom-type': oneOf(Object.keys(VARIANTS)), id: str }),
  tag: 'qom-type',
  variants: VARIANTS,
}

/** The properties of these objects by their types, in the words of the object model. */
export const OBJECT_PROPERTIES: Readonly<Record<string, { name: string; type: string }[]>> =
  Object.fromEntries(
    Object.entries(VARIANTS).map(([type, members]) => [
      type,
      Object.entries(members).map(([name, member]) => ({ name, type: wordFor(member.type) })),
    ]),
  )

function wordFor(type: QmpType): string {
  if (type === bool) return 'bool'
  return type === int ? 'int' : 'string'
}
