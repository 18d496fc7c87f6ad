package exactjson

import (
	"encoding"
	"encoding/json"
	"reflect"
)

var (
	marshaler     = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// ownForm tells whether values of a type write their own JSON, or have no strings.
func ownForm(t reflect.Type) bool {
	for _, i := range []reflect.Type{marshaler, textMarshaler} {
		if t.Implements(i) || t.Kind() != reflect.Pointer && reflect.PointerTo(t).Implements(i) {
			return true
		}
	}
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

// exact tells whether JSON keeps all strings of a value as they are.
func exact(v reflect.Value) bool {
	if !v.IsValid() || ownForm(v.Type()) {
		return true
	}
	switch v.Kind() {
	case reflect.String:
		return isExact(v.String())
	case reflect.Pointer, reflect.Interface:
		return v.IsNil() || exact(v.Elem())
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if !exact(v.Index(i)) {
				return false
			}
		}
	case reflect.Map:
		for k, e := range v.Seq2() {
			if !exact(k) || !exact(e) {
				return false
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if inJSON(v.Type().Field(i)) && !exact(v.Field(i)) {
				return false
			}
		}
	}
	return true
}

// inJSON tells whether JSON has a field. What it has not can lead anywhere, also in circles. It has also
// what an embedded type exports that is not exported itself.
func inJSON(field reflect.StructField) bool {
	return field.Tag.Get("json") != "-" && (field.IsExported() || field.Anonymous && field.Type.Kind() == reflect.Struct)
}

// mapped is a copy of a value with all of its strings changed. What is not exported is not in JSON.
func mapped(v reflect.Value, change func(string) string) reflect.Value {
	if !v.IsValid() || ownForm(v.Type()) {
		return v
	}
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.String:
		out.SetString(change(v.String()))
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(mapped(v.Elem(), change))
		}
	case reflect.Interface:
		if !v.IsNil() {
			out.Set(mapped(v.Elem(), change))
		}
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		}
		mapElements(out, v, change)
	case reflect.Array:
		mapElements(out, v, change)
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		}
		for k, e := range v.Seq2() {
			out.SetMapIndex(mapped(k, change), mapped(e, change))
		}
	case reflect.Struct:
		mapFields(out, v, change)
	}
	return out
}

// mapFields changes those of a struct.
func mapFields(out, v reflect.Value, change func(string) string) {
	for i := range v.NumField() {
		switch field := v.Type().Field(i); {
		case !inJSON(field):
		case field.IsExported():
			out.Field(i).Set(mapped(v.Field(i), change))
		default:
			mapFields(out.Field(i), v.Field(i), change)
		}
	}
}

func mapElements(out, v reflect.Value, change func(string) string) {
	for i := range v.Len() {
		out.Index(i).Set(mapped(v.Index(i), change))
	}
}
