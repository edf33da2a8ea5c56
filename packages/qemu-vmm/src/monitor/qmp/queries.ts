import { existsSync } from 'node:fs'

import { packageVersion } from '../../cli/version.ts'
import { BLOCK_QUERIES } from './block-queries.ts'
import { BLOCK_STATS } from './block-stats.ts'
import type { QmpCommand, QmpContext } from './command.ts'
import { PCI_QUERY } from './pci-queries.ts'
import { bool, int, listOf, oneOf, str, struct } from './types.ts'

const NIL_UUID = '00000000-0000-0000-0000-000000000000'
const NOTHING = struct({})

/** The version that guests and tools are told, and whose commands these are. */
export const QMP_VERSION: { qemu: object; package: string } = {
  qemu: { micro: 0, minor: 2, major: 7 },
  package: `qemu-vmm ${packageVersion()}`,
}

/** Commands that only ask. `query-commands` is with the list of all. */
export const QUERIES: readonly QmpCommand[] = [
  ...BLOCK_QUERIES,
  BLOCK_STATS,
  PCI_QUERY,
  {
    name: 'query-version',
    args: NOTHING,
    returns: struct({ qemu: struct({ major: int, minor: int, micro: int }), package: str }),
    run: () => QMP_VERSION,
  },
  {
    name: 'query-status',
    args: NOTHING,
    returns: struct({
      running: bool,
      singlestep: bool,
      status: oneOf([
        'prelaunch',
        'running',
        'paused',
        'shutdown',
        'internal-error',
        'guest-panicked',
        'io-error',
      ]),
    }),
    run: ({ machine: { status } }) => ({
      status,
      singlestep: false,
      running: status === 'running',
    }),
  },
  {
    name: 'query-name',
    args: NOTHING,
    returns: struct({ 'name?': str }),
    run: ({ name }) => (name === undefined ? {} : { name }),
  },
  {
    name: 'query-uuid',
    args: NOTHING,
    returns: struct({ UUID: str }),
    run: ({ uuid }) => ({ UUID: uuid ?? NIL_UUID }),
  },
  {
    name: 'query-kvm',
    args: NOTHING,
    returns: struct({ enabled: bool, present: bool }),
    run: async ({ machine }) => ({
      enabled: await isHostEngine(machine),
      present: existsSync('/dev/kvm'),
    }),
  },
  {
    name: 'query-chardev',
    args: NOTHING,
    returns: listOf(struct({ label: str, filename: str, 'frontend-open': bool })),
    run: ({ characters }) =>
      characters
        .list()
        .map(({ label, filename, isOpen }) => ({ 'frontend-open': isOpen, filename, label })),
  },
]

/** Only the software engine translates. */
export async function isHostEngine(machine: QmpContext['machine']): Promise<boolean> {
  return !('translations' in (await machine.stats()))
}
