package demo

import "encoding/json"

// toolCall is one call of a function in chat completions. In deltas, only the
// first has the ID, the type and the name.
type toolCall struct {
	Index    *int         `json:"index,omitempty"` // in deltas only
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"`
	Function functionCall `json:"function"`
}

type functionCall struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}

// noArguments is what the model calls every tool with.
const noArguments = "{}"

// forcedTool returns the name of the function that tool_choice makes the model
// call: the one named, or the first when any will do; empty when it is free to
// write. It reads all three dialects.
func forcedTool(choice, tools json.RawMessage) string {
	var word string
	var named struct {
		Type     string `json:"type"`
		Name     string `json:"name"`
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	if json.Unmarshal(choice, &word) != nil {
		if json.Unmarshal(choice, &named) != nil {
			return ""
		}
		word = named.Type
	}
	switch word {
	case "function", "tool":
		return named.Name + named.Function.Name
	case "required", "any":
		var all []struct {
			Name     string `json:"name"`
			Function struct {
				Name string `json:"name"`
			} `json:"function"`
		}
		if json.Unmarshal(tools, &all) == nil && len(all) > 0 {
			return all[0].Name + all[0].Function.Name
		}
	}
	return ""
}
