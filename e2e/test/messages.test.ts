// The kernel finds nothing wrong with the machine that it does not find wrong with QEMU's.
import test from 'ava'
import { bootArguments, command, hasPeer, peer, withGuest } from '../src/guest.ts'
import { type Message, isTrouble, parseMessages, shape } from '../src/messages.ts'

/** Messages that a machine of ours alone may cause, and why that is right. */
const accepted: readonly { readonly pattern: RegExp; readonly reason: string }[] = [
  {
    pattern: /^kvm-guest: PV spinlocks disabled, single CPU$/,
    reason: "one CPU needs no spinlocks of KVM's",
  },
]

/** Warnings that QEMU's machine `pc` causes as well, for where it is not there to show them. */
const sharedWithPeer = [/^acpi PNP0A03:00: fail to add MMCONFIG information/]

async function messages(program: string, memoryMib: number, cpus: number): Promise<Message[]> {
  const machine = ['-accel', 'tcg', '-cpu', 'max', '-smp', String(cpus)]
  const args = [...machine, ...bootArguments({ memoryMib })]
  return await withGuest(
    args,
    async (guest) => parseMessages(await guest.shell('dmesg -r')),
    program,
  )
}

for (const [memoryMib, cpus] of [
  [512, 1],
  [4096, 1],
  [512, 2],
] as const) {
  test.serial(
    `with ${memoryMib} MiB and ${cpus} vCPU the kernel complains of nothing that it does not say to QEMU`,
    async (t) => {
      const own = (await messages(command, memoryMib, cpus)).filter(isTrouble)
      if (!hasPeer) {
        t.log(`${peer} is not installed: only what is a warning by its level is looked at`)
        t.deepEqual(
          own.filter(
            ({ level, text }) => level <= 4 && !sharedWithPeer.some((known) => known.test(text)),
          ),
          [],
        )
        return
      }
      const theirs = new Set((await messages(peer, memoryMib, cpus)).map(shape))
      const ours = own.filter(
        (message) =>
          !theirs.has(shape(message)) &&
          !accepted.some(({ pattern }) => pattern.test(message.text)),
      )
      t.deepEqual(
        ours.map(({ text }) => text),
        [],
      )
    },
  )
}
