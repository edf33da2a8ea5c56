/** A value of an attribute or a text: how it is read, written, described and typed. */
export interface Scalar {
  /** The TypeScript type of its values. */
  readonly ts: string
  /** What is right, for messages and documentation: `one of a, b` or `a number from 0 to 255`. */
  readonly expected: string
  /** All valid texts, when they are a list. */
  readonly values?: readonly string[]
  /** The value of a text; undefined when the text is not valid. */
  readonly parse: (text: string) => ScalarValue | undefined
  readonly format: (value: ScalarValue) => string
}

export type ScalarValue = string | number | boolean

/** How an attribute or a text occurs, besides what values it has. */
export interface Occurrence {
  /** A document without it is refused. */
  readonly required?: true
  /** The value that is the same as none, and is not kept. */
  readonly absent?: ScalarValue
  /** A password: written only when secrets are asked for. */
  readonly secret?: true
  /** Only in the description of a running domain. */
  readonly live?: true
  /** Name of the property, when it is not the name in camel case. */
  readonly as?: string
}

/** What a schema says of an attribute. */
export interface AttributeSpec extends Occurrence {
  readonly name: string
  readonly key: string
  readonly type: Scalar
}

/** What a schema says of an element: everything that may be in it, in the order in which libvirt writes it. */
export interface ElementSpec {
  /** As written, with a prefix if it is in a namespace. */
  readonly name: string
  readonly doc: string
  readonly attributes: readonly AttributeSpec[]
  /** More attributes, which it has by the value of its attribute `type`. */
  readonly cases?: Readonly<Record<string, readonly AttributeSpec[]>> | undefined
  /** The characters in it, as the property `value`. */
  readonly text?: Scalar | undefined
  readonly children: readonly ChildSpec[]
  /** Name of its type, when it is not the name of the property that has it. */
  readonly typeName?: string | undefined
  /** Written although there is nothing in it. */
  readonly keepEmpty?: boolean | undefined
}

/** Something in an element. */
export type ChildSpec =
  /** An element that may come once, or as often as there are items. */
  | ({ readonly kind: 'one' | 'many'; readonly key: string; readonly element: ElementSpec } & Pick<
      Occurrence,
      'required' | 'live'
    >)
  /** An element that says all by being there: `<readonly/>`. */
  | { readonly kind: 'flag'; readonly key: string; readonly name: string; readonly doc: string }
  /** An element with text and nothing else: `<name>demo</name>`. */
  | ({
      readonly kind: 'text'
      readonly key: string
      readonly name: string
      readonly doc: string
      readonly type: Scalar
    } & Occurrence)
  /** An element whose inside is kept as it is. */
  | {
      readonly kind: 'raw'
      readonly key: string
      readonly name: string
      readonly doc: string
      /** Written as libxml2 would, not as libvirt would. */
      readonly verbatim: boolean
    }

/** An object of a definition, seen without its type. */
export type Model = { [key: string]: ModelValue | undefined }
export type ModelValue = ScalarValue | readonly ScalarValue[] | Model | Model[] | object
