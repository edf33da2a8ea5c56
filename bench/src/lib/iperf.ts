// Throughput between a guest and the host, by iperf3 on both.
import { spawn, spawnSync } from 'node:child_process'
import type { DebianGuest } from './debian-guest.ts'

/** Whether the host has it. */
export function hasIperf(): boolean {
  return spawnSync('iperf3', ['--version']).status === 0
}

interface Report {
  error?: string
  end?: Record<'sum_sent' | 'sum_received', { bits_per_second: number }>
}

/**
 * Gbit/s through user networking, by the host's clock.
 * @param outward from the guest to the host
 */
export async function throughput(
  guest: DebianGuest,
  port: number,
  seconds: number,
  outward: boolean,
): Promise<number> {
  const server = spawn('iperf3', ['-s', '-1', '-J', '-B', '127.0.0.1', '-p', String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    let text = ''
    server.stdout.setEncoding('utf8').on('data', (part: string) => (text += part))
    const ended = new Promise<void>((resolve, reject) => {
      server.on('close', () => resolve()).on('error', reject)
    })
    await listening(port)
    const direction = outward ? '' : '-R'
    const said = await guest.shell(`iperf3 -c 10.0.2.2 -p ${port} -t ${seconds} ${direction}`)
    await ended
    const { error, end } = JSON.parse(text) as Report
    if (end === undefined || error !== undefined) throw new Error(`iperf3: ${error}; ${said}`)
    return end[outward ? 'sum_received' : 'sum_sent'].bits_per_second / 1e9
  } finally {
    server.kill()
  }
}

/** A connection would be the one that the server is for: the kernel's list of listeners is asked instead. */
async function listening(port: number): Promise<void> {
  for (let i = 0; i < 100; i++) {
    const { stdout } = spawnSync('ss', ['-Hltn', `sport = :${port}`], { encoding: 'utf8' })
    if (stdout?.includes(`:${port}`) === true) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`iperf3 does not listen on port ${port}`)
}
