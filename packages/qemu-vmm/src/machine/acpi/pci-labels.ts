import * as aml from './aml.ts'
import type { Aml } from './aml.ts'
import { acquire, call, release, shiftLeft } from './aml-events.ts'

/** `_DSM` of PCI devices (PCI Firmware 3.3, 4.6), and its function that names a device. */
const PCI_DSM = 'e5c937d0-3553-4d7a-9117-ea4d19c3434d'
const FUNCTIONS = 0
const DEVICE_NAME = 7
/** The first revision that has it. */
const REVISION = 2

/**
 * What `_DSM` of the slots calls: `AIDX` reads the index of what is in a slot of a bus, `PDSM` answers
 * with it, and with a name that is empty. Names are those of QEMU's tables.
 */
export function pciLabels(): Aml[] {
  const index = aml.local(0)
  const answer = aml.local(1)
  return [
    aml.method(
      'AIDX',
      2,
      false,
      acquire('BLCK'),
      aml.store(aml.arg(0), aml.path('BNUM')),
      shiftLeft(aml.int(1), aml.arg(1), aml.path('PIDX')),
      aml.store(aml.path('PIDX'), index),
      release('BLCK'),
      aml.ret(index),
    ),
    aml.method(
      'PDSM',
      5,
      true,
      aml.store(call('AIDX', aml.arg(3), aml.arg(4)), index),
      aml.ifTrue(
        aml.both(
          aml.both(
            aml.equal(aml.arg(0), aml.uuid(PCI_DSM)),
            aml.not(aml.less(aml.arg(1), aml.int(REVISION))),
          ),
          aml.not(aml.equal(index, aml.int(0))),
        ),
        aml.ifTrue(
          aml.equal(aml.arg(2), aml.int(FUNCTIONS)),
          aml.ret(aml.buffer([(1 << FUNCTIONS) | (1 << DEVICE_NAME)])),
        ),
        aml.ifTrue(
          aml.equal(aml.arg(2), aml.int(DEVICE_NAME)),
          aml.store(aml.pkg(aml.int(0), aml.string('')), answer),
          aml.store(index, aml.element(answer, 0)),
          aml.ret(answer),
        ),
      ),
      aml.ret(aml.buffer([0])),
    ),
  ]
}

/** `_DSM` of what is in a slot, which has `BSEL` and `_SUN`. */
export function labelMethod(): Aml {
  const where = [aml.path('BSEL'), aml.path('_SUN')]
  const asked = [0, 1, 2].map(aml.arg)
  return aml.method('_DSM', 4, true, aml.ret(call('PDSM', ...asked, ...where)))
}
