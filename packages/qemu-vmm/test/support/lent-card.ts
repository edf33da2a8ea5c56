import { open } from 'kvm-core'
import type { IoEventFd, Vm } from 'kvm-core'
import { Link, createNet } from 'virtio'
import type { Interrupt, NetModel, QueueLink, VirtioDevice } from 'virtio'
import { FakeDriver, FakeMemory } from 'virtio/testing'

import { virtioMemory } from '../../src/devices/guest-memory.ts'
import { parseUserOptions } from '../../src/net/user/options.ts'
import { UserNet } from '../../src/net/user/user-net.ts'
import { MAC } from './net-guest.ts'

export const RAM_BYTES = 1 << 20

/** A card with a network in user mode behind it, in memory of a VM without a vCPU. */
export interface CardMachine extends AsyncDisposable {
  vm: Vm
  memory: FakeMemory
  device: VirtioDevice<NetModel>
  net: UserNet
  link: Link
  driver: FakeDriver
  errors: unknown[]
  /** Interrupts that were asked for here, and loans that began. */
  counts: { interrupts: number; loans: number; kicks: number }
  /** Does what was left for later, for as long as there is some. */
  settle(): void
  /** Kicks when the device wants it, by a write that exits. */
  kick(queue: number): void
  /** What the engine signals for a write to the notify register. */
  readonly kickFds: readonly number[]
  /** The queues are with the addon. */
  readonly lent: boolean
}

/** Makes one whose card lends its queues to the addon, or not. */
export function cardMachine(lends: boolean, hostTime: boolean = true): CardMachine {
  const vm = open({ engine: 'soft' }).createVm()
  vm.createIrqchip()
  const ram = vm.createRam({ size: RAM_BYTES })
  vm.setUserMemoryRegion({ slot: 0, gpa: 0, size: RAM_BYTES, ram })
  const data = new Uint8Array(ram.segment(0))
  const memory = new FakeMemory([{ gpa: 0, bytes: RAM_BYTES, data }])
  const link = new Link()
  const net = new UserNet(parseUserOptions('n', []), {
    nowUs: () => performance.now() * 1000,
    isHostTime: hostTime,
    seed: 1,
    report: (message) => void errors.push(message),
  })
  net.attach(link.a)
  const errors: unknown[] = []
  const later: (() => void)[] = []
  const device = createNet({
    memory: virtioMemory(vm.memory),
    side: link.b,
    mac: Uint8Array.from(MAC),
    onError: (error) => void errors.push(error),
    later: (work) => void later.push(work),
    rxQueueSize: 64,
    txQueueSize: 64,
    ...(lends && { nativeCalls: vm.nativeCalls() }),
  })
  const counts = { interrupts: 0, loans: 0, kicks: 0 }
  let lent = 0
  const events: IoEventFd[] = [0, 1].map((queue) =>
    vm.ioeventfd({ addr: 0x10_0000 + 4 * queue, len: 2 }, queue),
  )
  const interrupt: Interrupt = {
    queue: () => void counts.interrupts++,
    config() {},
    lend(queue): QueueLink | undefined {
      const event = events[queue]
      if (event === undefined) return undefined
      counts.loans++
      lent++
      event.setApart(true)
      return {
        kickFd: event.fd,
        address: 0xfee0_0000,
        data: 0x40 + queue,
        end(kicks) {
          event.setApart(false)
          lent--
          counts.kicks += kicks
        },
      }
    },
  }
  device.connect(interrupt)
  const driver = FakeDriver.direct(memory, device)
  return {
    vm,
    memory,
    device,
    net,
    link,
    driver,
    errors,
    counts,
    settle() {
      for (let rounds = 0; rounds < 100 && later.length > 0; rounds++) {
        for (const work of later.splice(0)) work()
      }
    },
    kick: (queue) => driver.kick(queue),
    get kickFds() {
      return events.map((event) => event.fd)
    },
    get lent() {
      return lent > 0
    },
    async [Symbol.asyncDispose]() {
      device.model.pause(true)
      net.close()
      await vm[Symbol.asyncDispose]()
    },
  }
}
