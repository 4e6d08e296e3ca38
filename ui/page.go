package ui

import "strconv"

// The number of entries of a list: as asked for, up to a bound.
const (
	defaultPage = 100
	largestPage = 500
)

// page is a list on the wire.
type page[T any] struct {
	Data []T `json:"data"`
	// Next is the cursor of the following page; null at the end.
	Next *string `json:"next"`
}

func newPage[T any](data []T, next string) page[T] {
	p := page[T]{Data: data}
	if p.Data == nil {
		p.Data = []T{}
	}
	if next != "" {
		p.Next = &next
	}
	return p
}

// parsePage reads the parameters that all lists have: limit, and the cursor of
// an earlier answer, which may be called cursor or before.
func parsePage(query map[string]string) (cursor string, limit int, err error) {
	cursor = query["cursor"]
	if before := query["before"]; before != "" {
		if cursor != "" && cursor != before {
			return "", 0, errInvalid("\"cursor\" and \"before\" are the same thing: send one of them.")
		}
		cursor = before
	}
	limit = defaultPage
	if text := query["limit"]; text != "" {
		limit, err = strconv.Atoi(text)
		if err != nil || limit < 1 || limit > largestPage {
			return "", 0, errInvalid("\"limit\" must be a whole number from 1 to %d.", largestPage)
		}
	}
	return cursor, limit, nil
}

// cut returns the part of all, which is in a fixed order with new entries in
// front, that follows the entry whose ID is cursor.
func cut[T any](all []T, id func(T) string, cursor string, limit int) (part []T, next string, err error) {
	if cursor != "" {
		at := -1
		for i, v := range all {
			if id(v) == cursor {
				at = i
				break
			}
		}
		if at < 0 {
			return nil, "", errCursor
		}
		all = all[at+1:]
	}
	if len(all) > limit {
		return all[:limit], id(all[limit-1]), nil
	}
	return all, "", nil
}

var errLostPlace = errInvalid("This link does not lead to a place in the list. Begin with the newest.")

var errCursor = errInvalid("The cursor is not one of this list: take \"next\" of an earlier answer, or begin without.")
