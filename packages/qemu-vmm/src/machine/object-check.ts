import { VmmError, formatBytes } from '../errors.ts'
import { isMemoryBackend } from '../objects/config.ts'
import type { ObjectConfig } from '../objects/config.ts'
import type { MachineConfig } from './config.ts'

const MEMORY_KEYS = ['size', 'share', 'prealloc'] as const
/** The keys of each type, beside `type` and `id`. */
const KEYS: Readonly<Record<ObjectConfig['type'], readonly string[]>> = {
  'rng-random': ['filename'],
  'rng-builtin': [],
  'filter-buffer': ['netdev', 'interval', 'queue', 'status'],
  'filter-dump': ['netdev', 'file', 'maxlen', 'queue'],
  'filter-throttle': ['netdev', 'queue', 'average', 'peak', 'burst'],
  'memory-backend-ram': MEMORY_KEYS,
  'memory-backend-memfd': [...MEMORY_KEYS, 'hugetlb', 'hugetlbsize'],
  'memory-backend-file': [...MEMORY_KEYS, 'memPath'],
}

/** Throws `E_CONFIG` or `E_MEMORY_SIZE` for objects that are wrong or that nothing uses. */
export function checkObjects({ objects = [], memoryBackend, memory }: MachineConfig): void {
  const ids = new Set<string>()
  for (const object of objects) {
    checkKeys(object)
    if (ids.has(object.id)) throw bad(`two objects are called '${object.id}'; rename one`)
    ids.add(object.id)
    if (!isMemoryBackend(object)) continue
    if (object.id !== memoryBackend) {
      throw bad(
        `memory backend '${object.id}' is used by nothing; name it as memory-backend of the ` +
          'machine, or remove it',
      )
    }
    if (object.type === 'memory-backend-file' && object.memPath === undefined) {
      throw bad(`memory backend '${object.id}' needs a memPath`)
    }
    if (object.size !== memory) {
      throw new VmmError(
        'E_MEMORY_SIZE',
        'Machine memory size does not match the size of the memory backend: ' +
          `${formatBytes(memory)} and ${formatBytes(object.size)}`,
        { fields: { memory, size: object.size } },
      )
    }
  }
  if (
    memoryBackend !== undefined &&
    !objects.some((o) => isMemoryBackend(o) && o.id === memoryBackend)
  ) {
    throw bad(`Memory backend '${memoryBackend}' not found; define it among the objects`)
  }
}

/** Throws `E_CONFIG` for an object that cannot be added to a machine that is there. */
export function checkObjectAdded(object: ObjectConfig): void {
  checkKeys(object)
  if (!isMemoryBackend(object)) return
  throw bad(`memory backend '${object.id}' comes too late: the machine has its memory`)
}

function checkKeys(object: ObjectConfig): void {
  const keys = KEYS[object.type]
  if (keys === undefined) {
    throw bad(`there is no object type '${object.type}'; it can be ${Object.keys(KEYS).join(', ')}`)
  }
  if (typeof object.id !== 'string' || object.id === '') throw bad(`an object has no id`)
  for (const key of Object.keys(object)) {
    if (key === 'type' || key === 'id' || keys.includes(key)) continue
    throw bad(`object '${object.id}' of type ${object.type} has no option '${key}'`)
  }
}

function bad(message: string): VmmError {
  return new VmmError('E_CONFIG', message)
}
