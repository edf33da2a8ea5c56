// What the engine suite consists of. It is fixed: a suite that changes with what it measures measures nothing.

/** The groups, in the order of the report. */
export const groups = ['kernels', 'programs', 'system', 'parallel'] as const
export type Group = (typeof groups)[number]

/** A machine that items run in; each is booted once for each side and round. */
export type MachineKind = 'plain' | 'disk' | 'two'

/** One thing that is timed. */
export interface Item {
  readonly name: string
  readonly group: Group
  /** What it does, for the report. */
  readonly what: string
  readonly machine: MachineKind
  /** What the guest's shell is told. The command prints the lines that protocol.ts reads. */
  readonly command: string
  /** Integer code of a program: it has a mean of its own. */
  readonly integer?: boolean
  /** The host runs it, too, and its checksum is what the machines' must be. */
  readonly native?: boolean
  /** A command whose output is a rate, which counts in place of the time. */
  readonly rate?: string
}

const suite = (name: string): string => `engine-suite ${name}`

const kernel =
  (integer: boolean) =>
  ([name, what]: readonly [string, string]): Item => ({
    name,
    what,
    group: 'kernels',
    machine: 'plain',
    command: suite(name),
    native: true,
    integer,
  })

const kernels: readonly Item[] = [
  ...(
    [
      ['sha256', 'SHA-256 of 4 KiB'],
      ['bytecode', 'interpreter of a register machine'],
      ['hash-small', 'hash table in the first-level cache'],
      ['hash-large', 'hash table of 16 MiB'],
      ['chase', 'pointers through 16 MiB'],
      ['bytes', 'loops over single bytes'],
      ['recursion', 'calls and returns'],
      ['quicksort', 'sorting 256 Ki integers'],
      ['crc32', 'CRC-32 with a table'],
      ['tokenizer', 'tokens of a small language'],
      ['lz', 'literals and back references'],
      ['bigint', '8192-bit products'],
    ] as const
  ).map(kernel(true)),
  ...(
    [
      ['nbody', 'scalar doubles'],
      ['saxpy', 'vectors of four floats'],
      ['memcpy', "the C library's memcpy"],
    ] as const
  ).map(kernel(false)),
]

const programs: readonly Item[] = (
  [
    ['awk', 'busybox awk: words of a text'],
    ['gzip', 'gzip -6 of a text'],
    ['sort', 'sort of a text by its third column'],
    ['sha256sum', 'sha256sum of eight texts'],
    ['openssl-sha256', 'openssl speed: SHA-256'],
    ['openssl-aes', 'openssl speed: AES-128-CBC'],
    ['openssl-rsa', 'openssl speed: RSA-2048 signatures'],
    ['sqlite', 'sqlite3: insert, index, group and join'],
    ['python-start', 'start-up of python3, three times'],
    ['python', 'python3: objects, dictionaries, strings'],
    ['gcc', 'gcc -O1 of one file'],
  ] as const
).map(([name, what]) => ({
  name,
  what,
  group: 'programs',
  machine: 'disk',
  command: `${suite(name)} -- /suite/run ${name}`,
  ...(name.startsWith('openssl-') ? { rate: 'cat /tmp/rate' } : {}),
}))

/** Told apart from the other items: it is the boot of the plain machine itself. */
export const bootItem = 'boot'

const system: readonly Item[] = (
  [
    [bootItem, "from the command to the shell's prompt"],
    ['spawn', 'fork, exec and wait of a static program'],
    ['syscall', 'a system call that does nothing'],
    ['pipe', 'a byte to another process and back'],
    ['fault', 'first touches of pages'],
    ['mmap', 'mappings that come and go'],
    ['create', 'files made, written and removed'],
    ['switch', 'a token around eight processes'],
  ] as const
).map(([name, what]) => ({ name, what, group: 'system', machine: 'plain', command: suite(name) }))

const parallel: readonly Item[] = (
  [
    ['parallel-1', 'two jobs in one process, two vCPUs'],
    ['parallel-2', 'two jobs in two processes, two vCPUs'],
  ] as const
).map(([name, what]) => ({ name, what, group: 'parallel', machine: 'two', command: suite(name) }))

/** All items. */
export const items: readonly Item[] = [...kernels, ...programs, ...system, ...parallel]

/**
 * The items that are named, by their own names or their groups'; all when none is.
 * @throws RangeError for a name that is neither
 */
export function selectItems(names: readonly string[]): readonly Item[] {
  const unknown = names.find(
    (name) => !items.some((item) => item.name === name || item.group === name),
  )
  if (unknown !== undefined) {
    const known = [...groups, ...items.map(({ name }) => name)].join(', ')
    throw new RangeError(`the engine suite has no item ${unknown}: ${known}`)
  }
  if (names.length === 0) return items
  return items.filter(({ name, group }) => names.includes(name) || names.includes(group))
}
