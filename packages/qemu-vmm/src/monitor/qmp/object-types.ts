import { bool, int, membersOf, oneOf, str } from './types.ts'
import type { QmpMembers, QmpObject } from './types.ts'

const MEMORY = { size: int, 'prealloc?': bool, 'share?': bool } as const

const VARIANTS: Readonly<Record<string, QmpMembers>> = {
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
