// Work for a guest, each piece with the result that it must have: all of it follows from a seed.
import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import { churnProgram, churnResult } from './churn.ts'
import { seeded } from './random.ts'

/** A line for the guest's shell, and what it must print. */
export interface Job {
  readonly name: string
  readonly line: string
  readonly expected: string
}

/** The jobs of one round. They need 64 MiB, and nothing beside busybox but what `compiler` says. */
export function soakJobs(seed: number, compiler: boolean): Job[] {
  const random = seeded(seed)
  const number = (): number => 1 + Math.floor(random() * 0x7fff_fffd)
  const jobs = [text(number()), churn(number()), bomb(), text(number())]
  return compiler ? [...jobs, compiled(number()), compiled(number())] : jobs
}

/** Numbers by awk, sorted, packed and unpacked, and their digest. */
function text(seed: number): Job {
  const count = 6000
  const numbers: number[] = []
  for (let state = seed; numbers.length < count;) {
    state = (state * 16_807) % 2_147_483_647
    numbers.push(state)
  }
  const sorted = numbers.toSorted((a, b) => a - b)
  const digest = createHash('sha256').update(sorted.map((n) => `${n}\n`).join(''))
  const program = `BEGIN{s=${seed};for(i=0;i<${count};i++){s=s*16807%2147483647;print s}}`
  const line = `awk '${program}' | sort -n | gzip -c | gunzip -c | sha256sum`
  return { name: `text ${seed}`, line, expected: `${digest.digest('hex')}  -\n` }
}

/** Code that is made, executed and thrown away. */
function churn(seed: number): Job {
  const rounds = 12
  const file = `/tmp/churn${seed}`
  const packed = Buffer.from(churnProgram(seed, rounds)).toString('base64')
  const line = `echo ${packed} | base64 -d >${file}; chmod +x ${file}; ${file}; rm ${file}`
  return { name: `churn ${seed}`, line, expected: churnResult(seed, rounds) }
}

/** Processes that make processes, in a group that may have 40: the limit is met, and then all are gone. */
function bomb(): Job {
  const group = '/tmp/groups/bomb'
  const line = [
    `mkdir -p ${group}; echo 40 >${group}/pids.max`,
    `(echo 0 >${group}/cgroup.procs; f() { f | f & }; f) 2>/dev/null`,
    `until grep -q 'max [1-9]' ${group}/pids.events; do usleep 50000; done; echo met`,
    `echo 1 >${group}/cgroup.kill; until rmdir ${group} 2>/dev/null; do usleep 50000; done; echo gone`,
  ].join('; ')
  return { name: 'bomb', line, expected: 'met\ngone\n' }
}

/** A C program with many functions of its own, by gcc. */
function compiled(seed: number): Job {
  const random = seeded(seed)
  const word = (): number => Math.floor(random() * 2 ** 32) >>> 0
  const steps = Array.from({ length: 60 }, () => [word(), word() | 1, word() % 31] as const)
  const functions = steps.map(
    ([a, b, shift], i) =>
      `unsigned f${i}(unsigned x){x^=${a}u;for(int i=0;i<9;i++)x=x*${b}u+(x>>${shift});return x;}`,
  )
  const calls = steps.map((_, i) => `x=f${i}(x);`).join('')
  const source = `int printf(const char*,...);${functions.join('')}int main(void){unsigned x=1;for(int n=0;n<500;n++){${calls}}printf("%08x\\n",x);}`
  let x = 1
  for (let n = 0; n < 500; n++) {
    for (const [a, b, shift] of steps) {
      x = (x ^ a) >>> 0
      for (let i = 0; i < 9; i++) x = (Math.imul(x, b) + (x >>> shift)) >>> 0
    }
  }
  const file = `/tmp/c${seed}`
  const packed =
    Buffer.from(source)
      .toString('base64')
      .match(/.{1,1000}/g) ?? []
  const writes = packed.map((part) => `echo ${part} >>${file}.b64`)
  const line = `${writes.join('\n')}\nbase64 -d <${file}.b64 >${file}.c; gcc -O2 -o ${file} ${file}.c && ${file}; rm ${file}*`
  return { name: `gcc ${seed}`, line, expected: `${x.toString(16).padStart(8, '0')}\n` }
}

/** What a guest's shell must do before: a file system of control groups. */
export const soakSetup =
  'mkdir -p /tmp/groups; mount -t cgroup2 none /tmp/groups; echo +pids >/tmp/groups/cgroup.subtree_control'

/** A script that does the jobs two at a time, and prints a line and what each of them printed. */
export function soakScript(jobs: readonly Job[]): string {
  const lines = jobs.flatMap(({ line }, i) => {
    const one = `{\n${line}\n} >/tmp/out${i} 2>&1 &`
    return i % 2 === 1 || i === jobs.length - 1 ? [one, 'wait'] : [one]
  })
  const show = jobs.map((_, i) => `echo "== ${i}"; cat /tmp/out${i}`)
  return [...lines, 'echo', ...show, 'echo "== end"', ''].join('\n')
}

/** What was wrong with the output of the script, job by job. */
export function soakErrors(jobs: readonly Job[], output: string): string[] {
  const parts = output.replaceAll('\r', '').split(/^== (?:\d+|end)\n/m)
  return jobs.flatMap(({ name, expected }, i) => {
    const got = parts[i + 1]
    return got === expected
      ? []
      : [`${name}: ${JSON.stringify(got)}, not ${JSON.stringify(expected)}`]
  })
}
