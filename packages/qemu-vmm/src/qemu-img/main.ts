import { run } from './run.ts'

// A reader that goes away is no error.
process.stdout.on('error', () => {})
process.exitCode = await run(process.argv.slice(2), {
  write: (text) => void process.stdout.write(text),
  complain: (line) => void process.stderr.write(`qemu-img: ${line}\n`),
  warn: (text) => void process.stderr.write(`${text}\n`),
  now: () => {
    const ms = Date.now()
    return { sec: Math.floor(ms / 1000), nsec: (ms % 1000) * 1_000_000 }
  },
})
