// Package exactjson is encoding/json for strings that are bytes: paths, arguments and variables of
// users, which need not be UTF-8. encoding/json replaces what is not by U+FFFD, and so changes it.
//
// A byte b that is no part of a character is written as the character U+10FF00+b, of the private use
// area. The bytes of such a character itself are written in the same way, so that each string comes
// back as it was. All other text is the same JSON as ever: readers of older versions see a path that
// leads nowhere instead of another one.
//
// Values that write their own JSON (json.Marshaler, encoding.TextMarshaler) are left to themselves.
package exactjson
