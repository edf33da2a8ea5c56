// A whole Debian at its shell on the serial console, from a disk of its own.
import { GuestProcess, command, guestFiles } from './guest.ts'

/** The prompt of root's shell, behind what the terminal is asked. */
const rootPrompt = /root@guest:~# $/

/** Options of a machine with this image as its disk. */
export function debianArguments(image: string, ...more: string[]): string[] {
  const drive = `file=${image},if=virtio`
  return ['-m', '1024', '-nographic', '-L', guestFiles.firmware, '-drive', drive, ...more]
}

/** Boots to the login prompt, logs in, hands the shell to `work`, and switches off. */
export async function withDebian(
  args: readonly string[],
  work: (shell: (line: string) => Promise<string>, guest: GuestProcess) => Promise<void>,
): Promise<number | null> {
  const guest = new GuestProcess(command, args)
  try {
    await guest.expect(/Debian GNU\/Linux[^]*guest login: $/)
    guest.type('root\n')
    await guest.expect(rootPrompt)
    const shell = async (line: string): Promise<string> => {
      guest.type(`${line}\n`)
      const seen = (await guest.expect(rootPrompt)).replaceAll('\r', '')
      return seen.slice(seen.indexOf('\n') + 1, seen.lastIndexOf('\n') + 1)
    }
    // Editing of the line and colours are for people.
    await shell('bind "set enable-bracketed-paste off"')
    await work(shell, guest)
    guest.type('poweroff\n')
    return (await guest.end()).code
  } finally {
    await guest.kill()
  }
}

/** The command that prints what the kernel complains of. */
export const errorMessages = 'dmesg --level=emerg,alert,crit,err'

/** The lines of it that matter: the list of radio channels is not there, and only wireless cards would ask for it. */
export function kernelErrors(text: string): string[] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !/regulatory\.|firmware_class:/.test(line))
}
