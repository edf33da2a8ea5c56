import * as aml from './aml.ts'
import type { Aml } from './aml.ts'
import { levelInterrupts, resourceTemplate } from './resources.ts'

const PIRQ_CHOICES = [5, 10, 11] as const
const PIRQ_DISABLED = 0x80

/** An interrupt link, `_UID` `uid`, over one of the bridge's route registers. */
export function linkDevice(link: string, uid: number, registerPath: string): Aml {
  const register = aml.path(registerPath)
  const result = aml.path('RBUF')
  return aml.device(
    link,
    aml.name('_HID', aml.eisaId('PNP0C0F')),
    aml.name('_UID', aml.int(uid)),
    aml.name('_PRS', resourceTemplate(levelInterrupts(...PIRQ_CHOICES))),
    aml.name('RBUF', resourceTemplate(levelInterrupts(0))),
    aml.method(
      '_STA',
      0,
      false,
      aml.ifTrue(aml.and(register, aml.int(PIRQ_DISABLED)), aml.ret(aml.int(0x09))),
      aml.ret(aml.int(0x0b)),
    ),
    aml.method('_DIS', 0, false, aml.or(register, aml.int(PIRQ_DISABLED), register)),
    aml.method(
      '_CRS',
      0,
      true,
      aml.createDwordField(result, 5, 'RIRQ'),
      aml.ifTrue(aml.less(register, aml.int(PIRQ_DISABLED)), aml.store(register, aml.path('RIRQ'))),
      aml.ret(result),
    ),
    aml.method(
      '_SRS',
      1,
      false,
      aml.createDwordField(aml.arg(0), 5, 'SIRQ'),
      aml.store(aml.path('SIRQ'), register),
    ),
  )
}

/** A link to an input of the interrupt controller that cannot be moved. */
export function fixedLink(link: string, uid: number, gsi: number): Aml {
  return aml.device(
    link,
    aml.name('_HID', aml.eisaId('PNP0C0F')),
    aml.name('_UID', aml.int(uid)),
    aml.name('_PRS', resourceTemplate(levelInterrupts(gsi))),
    aml.name('_CRS', resourceTemplate(levelInterrupts(gsi))),
    aml.method('_STA', 0, false, aml.ret(aml.int(0x0b))),
    aml.method('_DIS', 0, false),
    aml.method('_SRS', 1, false),
  )
}

/** A routing table: for each pin of each slot the link that it is wired to. */
export function routingTable(linkOf: (slot: number, pin: number) => string): Aml {
  const entries: Aml[] = []
  for (let slot = 0; slot < PCI_SLOTS; slot++) {
    for (let pin = 0; pin < 4; pin++) {
      const address = aml.int(slot * 0x1_0000 + 0xffff)
      entries.push(aml.pkg(address, aml.int(pin), aml.path(linkOf(slot, pin)), aml.int(0)))
    }
  }
  return aml.pkg(...entries)
}

const PCI_SLOTS = 32
