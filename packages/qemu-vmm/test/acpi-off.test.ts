import test from 'ava'

import { plugBoard } from './support/plug-board.ts'
import { hasPeer, startPeer } from './support/qtest.ts'

const compared = hasPeer ? test : test.skip

for (const kind of ['i440fx', 'q35'] as const) {
  const type = kind === 'q35' ? 'q35' : 'pc'
  const withoutAcpi = { machine: { type, options: { acpi: false } } } as const

  test(`${type} without ACPI: nothing comes and goes by it`, async (t) => {
    const { board, tree } = await plugBoard(kind, [], [], withoutAcpi)
    t.is(board.chipset.acpiHotplug, undefined)
    t.throws(() => board.chipset.checkCpuHotplug!('hotplug'), {
      code: 'E_HOTPLUG',
      message: /CPU hotplug is not supported without ACPI/,
    })
    const card = {
      driver: 'virtio-rng-pci',
      properties: { bus: type === 'q35' ? 'pcie.0' : 'pci.0' },
    }
    await t.throwsAsync(tree.add(card), {
      message: /does not support hotplugging/,
    })
    board.reset()
  })

  compared(`${type} without ACPI has the functions that QEMU's has`, async (t) => {
    const { board } = await plugBoard(kind, [], [], withoutAcpi)
    const peer = startPeer('-machine', `${type},acpi=off`)
    try {
      for (const slot of [0, 1, 31]) {
        for (let number = 0; number < 8; number++) {
          const address = 0x8000_0000 + (slot << 11) + (number << 8)
          await peer.ask(`outl 0xcf8 ${address}`)
          const theirs = Number(await peer.ask('inl 0xcfc'))
          const ours = board.pci.function(slot, number)?.configRead(0, 4) ?? 0xffff_ffff
          t.is(ours, theirs, `${slot}.${number}`)
        }
      }
    } finally {
      peer.close()
    }
  })
}
