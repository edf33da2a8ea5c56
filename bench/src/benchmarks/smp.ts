// Two independent guest loops on two vCPUs beside one loop on one vCPU: how much of the second host CPU arrives.
import { availableParallelism } from 'node:os'
import process from 'node:process'
import { KVM_RUN, open } from 'kvm-core'
import { Assembler, Cond, Reg, enterLong } from 'kvm-core/testing'
import { type Effort, type Results, progress } from '../lib/benchmark.ts'
import { median, paired, rounded } from '../lib/paired.ts'

const code = 0x1_0000
const ramBytes = 1 << 20
/** Each vCPU's code, data and stack are 64 KiB apart. */
const stride = 0x1_0000
const loopsPerMark = 40_000_000

/** Integer work with loads and stores; after `loopsPerMark` rounds one port write. */
function loop(at: number, data: number): Uint8Array {
  return new Assembler(64, at)
    .movImm(Reg.si, data)
    .label('mark')
    .movImm(Reg.cx, loopsPerMark)
    .label('again')
    .db(0x01, 0xc8) //                       add eax, ecx
    .db(0x89, 0x06) //                       mov [rsi], eax
    .db(0x33, 0x5e, 0x40) //                 xor ebx, [rsi+64]
    .db(0x01, 0x5e, 0x40) //                 add [rsi+64], ebx
    .db(0xc1, 0xc0, 0x05) //                 rol eax, 5
    .decReg(Reg.cx)
    .jcc(Cond.nz, 'again')
    .outImm8(0x10)
    .jmp('mark')
    .build()
}

interface Sample {
  /** Until the slowest vCPU had come to its last mark. */
  readonly seconds: number
  /** CPU seconds of the process for each mark of any vCPU: does not depend on who else runs. */
  readonly cpuPerMark: number
}

/** Runs until each of `vcpus` vCPUs has come `marks` times to its mark, after one to warm up. */
async function sample(vcpus: number, marks: number): Promise<Sample> {
  using kvm = open({ engine: 'soft' })
  await using vm = kvm.createVm()
  using ram = vm.createRam({ size: ramBytes })
  vm.setUserMemoryRegion({ slot: 0, gpa: 0, size: ram.size, ram })
  const all = Array.from({ length: vcpus }, (_, index) => {
    const at = code + index * stride
    vm.memory.write(at, loop(at, at + stride / 2))
    const vcpu = vm.createVcpu(index)
    enterLong(vm, vcpu, at, at + stride - 16)
    return vcpu
  })
  const counts = all.map(() => 0)
  const total = (): number => counts.reduce((sum, count) => sum + count, 0)
  let start = { at: 0, cpu: process.cpuUsage(), total: 0 }
  const result = await new Promise<Sample>((resolve, reject) => {
    const host = vm.createDeviceHost(() => host.serve({ exit }), { maxPollUs: 0 })
    function exit(vcpu: number, run: ArrayBuffer): void {
      const port = new DataView(run).getUint16(KVM_RUN.ioPort, true)
      if (port !== 0x10) return reject(new Error(`vCPU ${vcpu} left its loop`))
      counts[vcpu] = (counts[vcpu] ?? 0) + 1
      const least = Math.min(...counts)
      if (least === 1 && start.at === 0) {
        start = { at: performance.now(), cpu: process.cpuUsage(), total: total() }
      }
      if (least === marks + 1) {
        const { user, system } = process.cpuUsage(start.cpu)
        resolve({
          seconds: (performance.now() - start.at) / 1000,
          cpuPerMark: (user + system) / 1e6 / (total() - start.total),
        })
      }
    }
    for (const vcpu of all) vcpu.start({ spin: { maxUs: 0 } })
  })
  await Promise.all(all.map((vcpu) => vcpu.stop()))
  return result
}

export const name = 'smp'

export async function run(effort: Effort): Promise<Results> {
  const marks = effort.quick ? 5 : 15
  if (availableParallelism() < 2) progress('one host CPU: two vCPUs cannot be faster than one')
  const cpu: { one: number[]; two: number[] } = { one: [], two: [] }
  const two = async (): Promise<number> => {
    const { seconds, cpuPerMark } = await sample(2, marks)
    cpu.two.push(cpuPerMark)
    return seconds
  }
  const one = async (): Promise<number> => {
    const { seconds, cpuPerMark } = await sample(1, marks)
    cpu.one.push(cpuPerMark)
    return seconds
  }
  const pair = await paired({ own: two, peer: one }, effort)
  return {
    oneVcpuSeconds: rounded(pair.peer),
    twoVcpusSeconds: rounded(pair.own),
    // Work of two vCPUs in the time of one: 2 is perfect. On a busy host it says how busy it was.
    smpRatio: rounded(2 / pair.ratio),
    // The same by CPU time: what the vCPUs cost each other, whoever else runs.
    smpCpuRatio: rounded((2 * median(cpu.one)) / median(cpu.two)),
  }
}
