package broker

// Target says who is to get a message. It is plain data: make one with [ToAll],
// [ToRoom], [ToUser] or [ToConn], join them with [Target.Union] and leave receivers
// out with [Target.Except] and [Target.ExceptUser]. Each connection gets at most one
// copy. The zero Target is nobody. A Target may be kept and used by many goroutines.
type Target struct {
	All   bool     `json:"all,omitempty"`
	Rooms []string `json:"rooms,omitempty"`
	Users []string `json:"users,omitempty"`
	Conns []string `json:"conns,omitempty"` // connection ids

	ExceptConns []string `json:"except_conns,omitempty"`
	ExceptUsers []string `json:"except_users,omitempty"`
}
