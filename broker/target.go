package broker

// Target says which connections receive a message. It has the fields of realtime.Target, which
// documents them. To a broker it is plain data.
type Target struct {
	All   bool     `json:"all,omitempty"`
	Rooms []string `json:"rooms,omitempty"`
	Users []string `json:"users,omitempty"`
	Conns []string `json:"conns,omitempty"` // connection ids

	ExceptConns []string `json:"except_conns,omitempty"`
	ExceptUsers []string `json:"except_users,omitempty"`
}
