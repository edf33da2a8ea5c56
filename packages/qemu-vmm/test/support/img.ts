import { run } from '../../src/qemu-img/run.ts'

/** The date that images get in tests. */
export const NOW = { sec: 1_700_000_000, nsec: 5000 }

/** Runs our qemu-img in this process. */
export async function ours(
  ...args: string[]
): Promise<{ status: number; stdout: string; stderr: string }> {
  let stdout = ''
  let stderr = ''
  const status = await run(args, {
    write: (text) => void (stdout += text),
    complain: (line) => void (stderr += `qemu-img: ${line}\n`),
    warn: (text) => void (stderr += `${text}\n`),
    now: () => NOW,
  })
  return { status, stdout, stderr }
}
