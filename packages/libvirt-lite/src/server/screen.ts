import { createReadStream, rmSync } from 'node:fs'
import { join } from 'node:path'
import { invalid } from '../driver/domain.ts'
import { codesetName, keyName } from '../driver/keys.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { Handlers } from '../rpc/index.ts'
import { checkFlags } from './check-flags.ts'
import type { ServerContext } from './context.ts'

let screenshots = 0

/** What guests show, and keys that are pressed for them. */
export function screenHandlers({ domains }: ServerContext): Handlers {
  return {
    async DOMAIN_SCREENSHOT({ dom, screen, flags }, { stream }) {
      checkFlags(flags, 0, 'virDomainScreenshot')
      const domain = domains.of(dom)
      const { machine } = domain
      const videos = domain.live?.devices?.videos ?? []
      if (videos.every(({ model }) => model?.type === 'none')) {
        throw new VirtError(
          ErrorCode.OPERATION_INVALID,
          'Requested operation is not valid: no screens to take screenshot from',
        )
      }
      if (screen !== 0) {
        throw invalid('no such screen ID')
      }
      const path = join(machine.folder, `screen-${screenshots++}.png`)
      try {
        await domain.exclusively(() =>
          machine.execute('screendump', { filename: path, format: 'png' }),
        )
      } catch (error) {
        rmSync(path, { force: true })
        throw error
      }
      const file = createReadStream(path)
      file.once('open', () => rmSync(path, { force: true }))
      file.pipe(stream)
      file.once('error', (error) => stream.destroy(error))
      stream.once('close', () => file.destroy())
      stream.resume()
      return { mime: 'image/png' }
    },
    async DOMAIN_SEND_KEY({ dom, codeset, holdTime, keycodes, flags }) {
      checkFlags(flags, 0, 'virDomainSendKey')
      const domain = domains.of(dom)
      const keys = keycodes.map((code) => {
        const name = keyName(codeset, code)
        if (name !== undefined) return { type: 'qcode', data: name }
        const text = `cannot translate keycode ${code} of ${codesetName(codeset)} codeset to qnum keycode`
        throw new VirtError(ErrorCode.INTERNAL_ERROR, `internal error: ${text}`)
      })
      if (keys.length === 0) {
        throw new VirtError(ErrorCode.INVALID_ARG, 'invalid argument: no keys')
      }
      await domain.exclusively(() =>
        domain.machine.execute('send-key', {
          keys,
          ...(holdTime === 0 ? {} : { 'hold-time': holdTime }),
        }),
      )
    },
  }
}
