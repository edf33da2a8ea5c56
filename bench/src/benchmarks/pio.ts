// A port read of the guest, answered by a device: by the TypeScript RTC of qemu-kvm beside QEMU's own in C, and through
// kvm-core alone, with a handler that does nothing.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KVM_RUN, open } from 'kvm-core'
import { type Effort, type Results, progress } from '../lib/benchmark.ts'
import { GuestProcess, ownCommand, peerCommand, peerVersion } from '../lib/guest-process.ts'
import { median, paired, repeated, rounded } from '../lib/paired.ts'
import { portLoopImage, readsPerMark } from '../lib/port-loop.ts'

const port = 0x5a0
const loop = [
  [0xba, port & 0xff, port >> 8], //        mov dx, port
  [0xec, 0xeb, 0xfd], //             again: in al, dx; jmp again
].flat()

/** Median microseconds from one exit to the next, of a vCPU thread whose exits this isolate answers. */
async function coreRoundTrip(exits: number): Promise<number> {
  const batch = 100
  using kvm = open({ engine: 'soft' })
  await using vm = kvm.createVm()
  using ram = vm.createRam({ size: 0x1000 })
  vm.setUserMemoryRegion({ slot: 0, gpa: 0x1000, size: ram.size, ram })
  vm.memory.write(0x1000, Uint8Array.from(loop))
  vm.route({ space: 'pio', base: port, len: 1 })
  const vcpu = vm.createVcpu(0)
  const sregs = vcpu.getSregs()
  // The code segment is the first member of kvm_sregs: its base at 0, its selector at 12.
  sregs.fill(0, 0, 8)
  sregs.fill(0, 12, 14)
  vcpu.setSregs(sregs)
  const regs = vcpu.getRegs()
  regs[16] = 0x1000n
  vcpu.setRegs(regs)

  const samples: number[] = []
  const page = new DataView(vcpu.run)
  const times = await new Promise<number[]>((resolve) => {
    let count = 0
    let last = performance.now()
    const host = vm.createDeviceHost(() => host.serve(handlers))
    const handlers = {
      exit: (): void => {
        page.setUint8(Number(page.getBigUint64(KVM_RUN.ioDataOffset, true)), 0x5a)
        if (++count % batch !== 0) return
        const now = performance.now()
        samples.push(((now - last) * 1000) / batch)
        last = now
        if (count === exits) resolve(samples)
      },
    }
    vcpu.start()
  })
  await vcpu.stop()
  return median(times)
}

/** Microseconds for each read of the RTC's port in a machine of its own process. */
async function commandRead(command: string, image: string, marks: number): Promise<number> {
  const options = ['-accel', 'tcg', '-m', '64', '-nographic', '-kernel', image]
  const guest = new GuestProcess(command, options)
  try {
    // The first rounds warm up caches and compilers.
    for (let mark = 0; mark < 3; mark++) await guest.expect(/~/)
    const start = performance.now()
    for (let mark = 0; mark < marks; mark++) await guest.expect(/~/)
    return ((performance.now() - start) * 1000) / marks / readsPerMark
  } finally {
    await guest.stop()
  }
}

export const name = 'pio'

export async function run(effort: Effort): Promise<Results> {
  const exits = effort.quick ? 100_000 : 1_000_000
  const core = await repeated(() => coreRoundTrip(exits), effort)
  progress(`kvm-core alone: ${core} us`)
  const folder = mkdtempSync(join(tmpdir(), 'bench-pio-'))
  try {
    const image = join(folder, 'port-loop')
    writeFileSync(image, portLoopImage())
    const marks = effort.quick ? 5 : 20
    const own = (): Promise<number> => commandRead(ownCommand, image, marks)
    if (peerVersion() === undefined) {
      const ownUs = rounded(await repeated(own, effort))
      return { coreRoundTripUs: rounded(core), ownUs }
    }
    const peer = (): Promise<number> => commandRead(peerCommand, image, marks)
    const pair = await paired({ own, peer }, effort)
    return {
      coreRoundTripUs: rounded(core),
      ownUs: rounded(pair.own),
      tcgUs: rounded(pair.peer),
      pioRatio: rounded(pair.ratio),
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}
