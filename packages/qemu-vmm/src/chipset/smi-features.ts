import type { Stateful } from '../device.ts'
import { bytes, flag, parseState } from '../machine/state.ts'
import type { FwCfgFile } from './fw-cfg.ts'

const BROADCAST = 1
const FEATURE_BYTES = 8
const OFFERED: readonly number[] = [BROADCAST, 0, 0, 0, 0, 0, 0, 0]

export interface SmiFeaturesState {
  requested: Uint8Array
  accepted: boolean
}

/**
 * What firmware and the ICH9 agree about SMIs, through three files of fw_cfg: what there is, what the firmware
 * wants, and whether that is accepted, which is decided when it asks (QEMU, docs/specs and hw/isa/lpc_ich9).
 */
export class SmiFeatures implements Stateful<SmiFeaturesState> {
  readonly #requested: Uint8Array = new Uint8Array(FEATURE_BYTES)
  readonly #accepted: Uint8Array = new Uint8Array(1)

  /** An SMI that a processor asks for goes to all. */
  get broadcast(): boolean {
    return this.#accepted[0] === 1 && (this.#requested[0]! & BROADCAST) !== 0
  }

  get files(): FwCfgFile[] {
    return [
      { name: 'etc/smi/supported-features', data: Uint8Array.from(OFFERED) },
      {
        name: 'etc/smi/requested-features',
        data: this.#requested,
        // What was agreed stays so until the machine is reset.
        isWritable: () => this.#accepted[0] === 0,
      },
      { name: 'etc/smi/features-ok', data: this.#accepted, selected: () => this.#accept() },
    ]
  }

  #accept(): void {
    if (this.#requested.every((byte, i) => (byte & ~OFFERED[i]!) === 0)) this.#accepted[0] = 1
  }

  reset(): void {
    this.#requested.fill(0)
    this.#accepted.fill(0)
  }

  save(): SmiFeaturesState {
    return { requested: this.#requested.slice(), accepted: this.#accepted[0] === 1 }
  }

  load(state: SmiFeaturesState): void {
    const saved = parseState<SmiFeaturesState>('smi-features', state, {
      requested: bytes(FEATURE_BYTES),
      accepted: flag,
    })
    this.#requested.set(saved.requested)
    this.#accepted[0] = Number(saved.accepted)
  }
}
