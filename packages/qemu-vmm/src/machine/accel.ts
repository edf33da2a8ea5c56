import { KvmError, hostVerdict, open } from 'kvm-core'
import type { Kvm, OpenOptions } from 'kvm-core'

import { VmmError } from '../errors.ts'
import type { MachineConfig } from './config.ts'

/** What opening the engines needs; tests bring their own. */
export interface Engines {
  open: typeof open
  hostVerdict: typeof hostVerdict
}

/**
 * Opens the engine that `config.accel` names. `kvm:tcg` says in the log why it is not the host's.
 * @throws VmmError E_NO_HOST_ENGINE for `kvm`, in QEMU's words
 */
export function openEngine(
  { accel = 'auto', tcg, log }: Pick<MachineConfig, 'accel' | 'tcg' | 'log'>,
  engines: Engines = { open, hostVerdict },
): Kvm {
  const unused = (kvm: Kvm): Kvm => {
    if (tcg !== undefined && kvm.engine === 'host') log?.('wishes for tcg have no effect: kvm runs')
    return kvm
  }
  const wishes: OpenOptions = tcg === undefined ? {} : { soft: tcg }
  switch (accel) {
    case 'auto':
      return unused(engines.open({ engine: 'auto', ...wishes }))
    case 'tcg':
      return engines.open({ engine: 'soft', ...wishes })
    case 'kvm':
      return openHost(engines)
    case 'kvm:tcg':
      try {
        // Somebody who names a second choice does not want a KVM that cannot run the guest.
        const { usable, reason } = engines.hostVerdict()
        if (usable) return unused(openHost(engines))
        log?.(`failed to initialize kvm: ${reason}`)
      } catch (error) {
        if (!(error instanceof VmmError)) throw error
        log?.(error.message)
      }
      log?.('falling back to tcg')
      return engines.open({ engine: 'soft', ...wishes })
  }
}

/** QEMU's messages end with the text of the errno. */
const TEXTS: Readonly<Record<string, string>> = {
  ENOENT: 'No such file or directory',
  EACCES: 'Permission denied',
  ENXIO: 'No such device or address',
  EBUSY: 'Device or resource busy',
}

function openHost(engines: Engines): Kvm {
  try {
    return engines.open({ engine: 'host' })
  } catch (error) {
    if (!(error instanceof KvmError)) throw error
    const text = TEXTS[error.errno]
    const reason = error.message.replace(/^E_NO_HOST_ENGINE: /, '')
    const first =
      text === undefined
        ? `failed to initialize kvm: ${reason}`
        : `Could not access KVM kernel module: ${text}\nfailed to initialize kvm: ${text}`
    const detail = text === undefined ? '' : `\n${reason}`
    throw new VmmError(
      'E_NO_HOST_ENGINE',
      `${first}${detail}\n-accel tcg, the software CPU, needs none`,
      { fields: { errno: error.errno }, cause: error },
    )
  }
}
