import { XmlError } from '../xml/index.ts'
import type { XmlErrorCode } from '../xml/index.ts'
import { originOf } from './schema/position.ts'

/** What is wrong, and where. */
export interface Refusal {
  /** The part of a definition that it is about, and the path below it: `/target/@bus`. */
  at?: object | undefined
  below?: string
  value?: string | number | undefined
  code?: XmlErrorCode
}

/** An error about a part of a definition; it has path and line when the part was read from a document. */
export function refusal(
  message: string,
  { at, below = '', value, code = 'E_XML_ERROR' }: Refusal,
): XmlError {
  const origin = at === undefined ? undefined : originOf(at)
  return new XmlError(
    message,
    {
      ...(origin === undefined ? {} : { path: origin.path + below }),
      ...(value === undefined ? {} : { value: String(value) }),
      ...(origin?.position === undefined ? {} : { position: origin.position }),
    },
    code,
  )
}

/** What is right as a document, but asks for something that there is not. */
export function unsupported(message: string, refused: Refusal = {}): XmlError {
  return refusal(message, { ...refused, code: 'E_CONFIG_UNSUPPORTED' })
}
